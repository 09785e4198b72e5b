"""Names in any script are drawn with a font that has their characters, or escaped."""
import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mae_backbone.utils import fonts
from mae_backbone.utils.fonts import drawable, find_font, plot_label, set_fonts

BUNDLED = Path(matplotlib.get_data_path(), 'fonts', 'ttf')
SERIF = str(BUNDLED / 'STIXGeneral.ttf')
ONLY_SERIF = '\u1d81'  # "d with palatal hook", which STIX has and DejaVu Sans does not have
NOWHERE = '\U000e0fff'  # not assigned


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch):
    """A machine with one font more than those of matplotlib, and with fonts that cannot be used."""
    paths = [str(BUNDLED / 'LastResortHE-Regular.ttf'), __file__, 'missing.ttf', SERIF]
    monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: paths)
    fonts._font_with.cache_clear()
    yield
    fonts._font_with.cache_clear()


@pytest.mark.parametrize('text', ['cat', 'Bäume', 'ячейка', 'κύτταρο', 'خلية', 'two\nlines'])
def test_font_of_matplotlib_is_used_for_its_scripts(text: str):
    assert Path(find_font(text)).name == 'DejaVuSans.ttf'
    assert drawable(text) == text.replace('\n', r'\n')


def test_characters_that_only_another_font_has_are_drawn_with_it():
    assert find_font(f'a{ONLY_SERIF}') == SERIF
    assert drawable(f'a{ONLY_SERIF}') == f'a{ONLY_SERIF}'


def test_characters_that_no_font_has_are_escaped():
    assert drawable('猫 cat') == r'\u732b cat'
    assert drawable(f'{ONLY_SERIF}猫') == ONLY_SERIF + r'\u732b'
    assert drawable(f'a{NOWHERE}\udcff') == r'a\U000e0fff\udcff'


def test_labels_of_a_plot_are_short_and_no_formulas():
    assert plot_label('cat') == 'cat'
    assert plot_label('$5\n', longest=5) == r'\$5\n'
    assert plot_label('x' * 99, longest=4) == 'xxx…'


def test_texts_of_a_plot_get_a_font_that_has_their_characters():
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_yticks([0, 1], ['cat', plot_label(ONLY_SERIF)])
    axes.set_title(plot_label('猫'))
    set_fonts(figure)
    assert [text.get_fontfamily() for text in axes.get_yticklabels()] == [['sans-serif'], ['STIXGeneral']]
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # matplotlib warns of a missing character
        figure.canvas.draw()
