"""HTML of the page: text of users stays text, and every row of a legend has its color, name, bar and value."""
import numpy as np
import pytest

from mae_backbone.demo import html
from mae_backbone.demo.answers import Row
from mae_backbone.demo.feature_bank import Neighbor

EVIL = '<script>alert(1)</script>"\x1b'


@pytest.mark.parametrize('text', [
    html.head(EVIL, EVIL), html.message(EVIL, error=True), html.legend(EVIL, [Row(EVIL, EVIL, 0.5, (1, 2, 3))]),
    html.neighbors([Neighbor(EVIL, 0.5, b'jpeg')]), html.pictures([(EVIL, np.zeros((2, 2, 3), np.uint8))], EVIL)])
def test_text_is_escaped(text):
    assert '<script' not in text
    assert '\x1b' not in text
    assert '&lt;script&gt;' in text


def test_a_row_has_its_color_bar_and_value():
    text = html.legend('two', [Row('sky', '25%', 0.25, (1, 2, 3)), Row('rest', '', 0.0, None)])
    assert 'background: rgb(1, 2, 3)' in text
    assert 'width: 25.0%' in text
    assert text.count('class="swatch"') == text.count('class="bar"') == 1


def test_bars_stay_in_their_row():
    assert 'width: 100.0%' in html.legend('', [Row('a', '1', 7.0, None)])


def test_errors_are_announced():
    assert 'role="alert"' in html.message('no', error=True)
    assert html.message('') == ''


def test_a_legend_without_colors_has_no_column_for_them():
    rows = [Row('cat', '70%', 0.7, None), Row('dog', '30%', 0.3, None)]
    assert html.legend('', rows).count('<span') == 2 * 3
    assert html.legend('', [rows[0]._replace(color=(1, 2, 3)), rows[1]]).count('<span') == 2 * 4 + 1
