"""Classes of colors equal those of a pixel-wise search."""
import numpy as np
import pytest

from mae_backbone.data.label_colors import LabelColors, UnknownColorError


@pytest.mark.parametrize('count', [1, 2, 7, 255])
def test_every_color_gives_its_class(count: int):
    chance = np.random.default_rng(count)
    colors = np.stack(np.unravel_index(chance.choice(256**3, count + 2, replace=False), (256, 256, 256)), 1)
    palette, ignored = [tuple(map(int, color)) for color in colors[:count]], colors[count:].tolist()
    which = chance.integers(0, count + 2, (9, 11))
    labels = LabelColors(palette, ignored).labels(colors[which].astype(np.uint8))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, np.where(which < count, which, 255))


def test_neighboring_colors_are_unknown():
    """Also those below the smallest and above the largest."""
    colors = LabelColors([(10, 20, 30)])
    for channel in range(3):
        for step in (-1, 1):
            pixels = np.full((1, 2, 3), (10, 20, 30), np.uint8)
            pixels[0, 1, channel] += np.array(step).astype(np.uint8)
            with pytest.raises(UnknownColorError, match=r'1 colors of no class: #[0-9a-f]{6} \(1 pixels\)$'):
                colors.labels(pixels)


def test_some_of_many_unknown_colors_are_named():
    pixels = np.arange(3 * 40, dtype=np.uint8).reshape(5, 8, 3)
    with pytest.raises(UnknownColorError, match=r'^40 colors of no class: #000102 .*, \.\.\.$'):
        LabelColors([(255, 0, 0)]).labels(pixels)


@pytest.mark.parametrize(('palette', 'words'), [
    ([], 'has 0 colors'), ([(i, 0, 0) for i in range(256)], 'has 256 colors'), ([(1, 2, 256)], r'in 0\.\.255'),
    ([(1, 2, -1)], r'in 0\.\.255'), ([(1, 2)], r'in 0\.\.255'), ([(0.5, 0, 0)], r'in 0\.\.255'),
    ([(1, 2, 3), (1, 2, 3)], '#010203 belongs to more than one')])
def test_invalid_palette_raises(palette: list, words: str):
    with pytest.raises(ValueError, match=words):
        LabelColors(palette)
