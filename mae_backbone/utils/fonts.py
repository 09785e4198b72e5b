"""Fonts for names in any script: DejaVu Sans, which matplotlib brings, or another font of this machine."""
from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mae_backbone.utils.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Fonts that draw a box instead of each character, so that they "have" all of them.
_PLACEHOLDERS = 'LastResort'


def find_font(text: str) -> str:
    """Returns the path of a font that has the characters of a text, or as many of them as a font here has.

    This is DejaVu Sans (Latin, Greek, Cyrillic, Arabic and others), unless another font has more of them.
    """
    missing = frozenset(ord(c) for c in text if not c.isspace()) - _characters(_dejavu())
    return _font_with(missing) if missing else _dejavu()


def drawable(text: str) -> str:
    """Escapes the characters of a text that cannot be drawn: not printable, or in no font of this machine."""
    text = printable(text)
    characters = _characters(find_font(text))
    return ''.join(c if c.isspace() or ord(c) in characters else c.encode('unicode_escape').decode() for c in text)


def plot_label(text: str, *, longest: int = 30) -> str:
    """Returns text for matplotlib, which reads formulas between dollar signs.

    Args:
        text: any text, such as the name of a class.
        longest: number of characters after which the text is cut off.
    """
    text = drawable(text)
    return (text if len(text) <= longest else text[:longest - 1] + '…').replace('$', r'\$')


def set_fonts(figure: Figure) -> None:
    """Gives each text of a plot a font that has its characters."""
    from matplotlib import font_manager
    from matplotlib.text import Text
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        path = find_font(text.get_text())
        if path != _dejavu():
            font_manager.fontManager.addfont(path)
            text.set_fontfamily(font_manager.FontProperties(fname=path).get_name())


@lru_cache
def _dejavu() -> str:
    import matplotlib
    return str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'))


@lru_cache
def _font_with(missing: frozenset[int]) -> str:
    """Returns the font with most of the characters; of several, the one with the plainest name."""
    from matplotlib.font_manager import findSystemFonts

    def preference(path: str) -> tuple[int, bool, bool, str]:
        stem = Path(path).stem
        return len(missing - _characters(path)), 'Regular' not in stem, 'Sans' not in stem, path
    fonts = [path for path in findSystemFonts() if not Path(path).stem.startswith(_PLACEHOLDERS)]
    return min([_dejavu(), *fonts], key=preference)


@cache
def _characters(path: str) -> frozenset[int]:
    """Returns the code points of a font; none of a font that cannot be read, or not be scaled (color emoji)."""
    from matplotlib.ft2font import FT2Font
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()
