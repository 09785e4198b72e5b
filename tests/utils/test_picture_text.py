"""Text in pictures has the size that was measured, and its letters are not question marks."""
import numpy as np
import pytest

from mae_backbone.utils.picture_text import WHITE, fitting_size, text_size, write_label, write_text


def written(text: str, *, x: int = 5, y: int = 3, size: float = 20, shape: tuple[int, int] = (40, 200)) -> np.ndarray:
    picture = np.full((*shape, 3), 255, np.uint8)
    write_text(picture, text, x, y, size)
    return picture


@pytest.mark.parametrize('text', ['cat', 'Bäume', 'ячейка', '$5', 'a\nb', 'a\udcff', '猫'])
def test_text_stays_in_the_measured_box(text: str):
    width, height = text_size(text, 20)
    dark = written(text).min(2) < 128
    assert dark.any()
    dark[3:3 + height, 5:5 + width] = False
    assert not dark.any()


def test_different_letters_outside_of_ascii_look_different():
    """OpenCV draws a question mark for each of their bytes."""
    pictures = [written(text) for text in ('ä', 'я', 'κ', '??')]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize(('x', 'y'), [(-5, -5), (190, 35), (-500, 0), (0, -500), (500, 0), (0, 500)])
def test_text_outside_of_the_picture_is_cut_off(x: int, y: int):
    """What is inside is the same as in a larger picture."""
    large = np.full((1240, 1400, 3), 255, np.uint8)
    write_text(large, 'cat', 600 + x, 600 + y, 20)
    assert (written('cat', x=x, y=y) == large[600:640, 600:800]).all()


def test_outline_surrounds_the_letters():
    picture = np.full((60, 200, 3), 255, np.uint8)
    write_text(picture, 'cat', 20, 20, 20, WHITE, outline=(255, 0, 0))
    red = (picture == (255, 0, 0)).all(2)
    assert red.any()
    assert not (picture == 0).all(2).any()


def test_reduced_size_fits_but_stays_legible():
    assert fitting_size('cat', 14, 400) == 14
    reduced = fitting_size('a long name', 14, 50)
    assert 5 < reduced < 14
    assert text_size('a long name', reduced)[0] <= 50
    assert fitting_size('a long name' * 99, 14, 50) == 5


def test_colors_and_other_pixels_are_unchanged():
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    changed = picture.copy()
    write_text(changed, 'cat', 5, 3, 12, (255, 0, 0))
    width, height = text_size('cat', 12)
    differs = (changed != picture).any(2)
    assert differs.any()
    assert not differs[3 + height:].any()
    assert not differs[:, 5 + width:].any()


@pytest.mark.parametrize('color', [(255, 255, 0), (0, 0, 120)])
@pytest.mark.parametrize(('x', 'y'), [(30, 40), (-3, 2), (195, 50)])
def test_label_of_a_box_is_inside_of_the_picture_and_legible(x: int, y: int, color: tuple[int, int, int]):
    picture = np.full((60, 200, 3), 77, np.uint8)
    write_label(picture, 'cat', x, y, 12, color)
    width, height = text_size('cat', 12)
    rows, columns = np.nonzero((picture != 77).any(2))
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (height, width)
    brightness = picture[rows.min():rows.max() + 1, columns.min():columns.max() + 1] @ (0.3, 0.6, 0.1)
    assert np.ptp(brightness) > 100
