"""Grids of images keep every pixel, and saving failures raise."""
from pathlib import Path

import cv2
import numpy as np
import pytest

from mae_backbone.utils.image_grid import labeled, legend, save_picture, side_by_side, title_bar, to_height


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def test_images_are_placed_in_rows_and_columns():
    small, large = picture(32, 48), picture(64, 64)
    found = side_by_side([[small, large], [large, small]], ['left', 'right'], height=64)
    # Columns of 96 (48 scaled by 2) with a gap of 4, a title of 24, two rows with a gap of 4.
    assert found.shape == (24 + 2 * 68, 2 * 100, 3)
    assert found.dtype == np.uint8
    scaled = small.repeat(2, 0).repeat(2, 1)  # hard edges
    assert (found[24:88, :96] == scaled).all()
    assert (found[24:88, 100:164] == large).all()
    assert (found[92:156, :64] == large).all()
    assert (found[92:156, 100:196] == scaled).all()
    assert (found[24:88, 164:] == 255).all()


def test_large_images_are_averaged_down():
    board = np.indices((128, 128)).sum(0) % 2 * 254
    found = side_by_side([[board[..., None].repeat(3, 2).astype(np.uint8)]], ['board'], height=64)
    assert (found[24:88, :64] == 127).all()


def test_an_image_of_400_to_1_does_not_widen_a_figure_to_that_ratio():
    wide = picture(10, 4000)
    assert side_by_side([[wide, wide]], ['left', 'right'], height=192).shape == (24 + 196, 2 * (8 * 192 + 4), 3)
    enlarged = to_height(wide, 192)
    assert enlarged.shape == (192, 4000, 3)  # no pixel is lost, and none is enlarged
    assert (enlarged[:10] == wide).all()
    assert (enlarged[10:] == 255).all()


@pytest.mark.parametrize('width', [40, 100, 400])
def test_title_is_shrunk_to_fit(width: int):
    bar = title_bar('75% hidden', width)
    assert bar.shape == (24, width, 3)
    assert bar.min() < 128
    assert (bar[:, -3:] == 255).all()


@pytest.mark.parametrize('name', ['picture.png', 'folder.with.dots/picture.png', 'größe.png'])
def test_saved_picture_is_read_back(tmp_path: Path, name: str):
    wanted, path = picture(8, 9), tmp_path / name
    path.parent.mkdir(exist_ok=True)
    save_picture(str(path), wanted)
    found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert (found[..., ::-1] == wanted).all()


@pytest.mark.parametrize('name', ['picture.xyz', 'picture', 'folder.with.dots/picture', 'no/folder/picture.png'])
def test_unwritable_picture_raises_an_oserror_with_its_name(tmp_path: Path, name: str):
    (tmp_path / 'folder.with.dots').mkdir()
    with pytest.raises(OSError, match=name):
        save_picture(str(tmp_path / name), picture(8, 9))
    assert not (tmp_path / name).exists()


def test_names_that_are_not_utf_8_are_drawn(tmp_path: Path):
    name = 'gr\udcfcn'
    assert (title_bar(name, 200) < 128).any()
    assert (legend([name], [(0, 0, 0)], 200) < 128).any()
    save_picture(str(tmp_path / f'{name}.png'), picture(8, 9))
    assert (tmp_path / f'{name}.png').stat().st_size


@pytest.mark.parametrize('right', [None, True, False])
def test_a_label_has_a_tick_or_a_cross_of_another_shape(right: bool | None):
    image = np.full((10, 20, 3), 200, np.uint8)
    drawn = labeled(image, 'cat', right, height=96)
    assert drawn.shape == (96 + 24, 192, 3)
    assert (drawn[:96] == 200).all()
    mark = drawn[96:, :18].astype(int)
    colored = mark.max(axis=2) - mark.min(axis=2) > 60
    assert colored.any() == (right is not None)
    if right is not None:  # only the cross is the same upside down
        shape = colored[4:20, 2:17]
        assert (np.mean(shape[::-1] == shape) > 0.9) == (not right)
