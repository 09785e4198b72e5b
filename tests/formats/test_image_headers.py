from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from mae_backbone.data import index
from mae_backbone.data.decode import read_image
from mae_backbone.formats import image_headers
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.image_headers import StoredSize, read_size, read_sizes


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp', '.bmp', '.jp2'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
def test_size_equals_the_size_of_the_decoded_image(tmp_path: Path, suffix: str, orientation: int | None) -> None:
    path = tmp_path / f'image{suffix}'
    exif = Image.Exif()
    if orientation is not None and suffix not in ('.bmp', '.jp2'):
        exif[0x0112] = orientation
    Image.new('RGB', (40, 30)).save(path, exif=exif)
    assert read_size(str(path)).upright == read_image(path).shape[1::-1]


@pytest.mark.parametrize('orientation', [3, 6])
def test_orientation_behind_the_pixels_of_a_png_is_the_orientation_of_the_decoded_image(tmp_path: Path, orientation: int
                                                                                        ) -> None:
    path, exif = tmp_path / 'image.png', Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (40, 30)).save(path, exif=exif)
    data = path.read_bytes()
    at = data.index(b'eXIf') - 4
    end = at + 12 + int.from_bytes(data[at:at + 4], 'big')
    path.write_bytes(data[:at] + data[end:-12] + data[at:end] + data[-12:])
    assert read_size(str(path)) == (40, 30, orientation)
    assert read_size(str(path)).upright == read_image(path).shape[1::-1]


def test_size_of_formats_unknown_to_pil_comes_from_opencv(tmp_path: Path) -> None:
    path = tmp_path / 'image.pam'
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    path.write_bytes(cv2.imencode('.pam', pixels)[1].tobytes())
    with pytest.raises(UnidentifiedImageError):
        Image.open(path)
    assert read_size(str(path)) == (40, 30, 1)


def test_unreadable_images_are_counted_and_named(tmp_path: Path) -> None:
    paths = [str(tmp_path / f'{i}.png') for i in range(5)]
    for path in paths:
        Image.new('RGB', (4, 3)).save(path)
    assert read_sizes('train', paths) == dict.fromkeys(paths, StoredSize(4, 3))
    Path(paths[3]).write_bytes(b'no image')
    with pytest.raises(DataError, match=r'train: 1 of 5 images cannot be read: .*3\.png'):
        read_sizes('train', paths)


def test_images_that_cannot_be_read_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index, 'KEEP_FROM', 3)
    paths = [str(tmp_path / f'{i}.png') for i in range(4)]
    for path in paths[1:]:
        Image.new('RGB', (4, 3)).save(path)
    with pytest.raises(DataError, match=r'1 of 4 images cannot be read: .*0\.png'):
        read_sizes('train', paths)
    Image.new('RGB', (4, 3)).save(paths[0])
    assert set(read_sizes('train', paths).values()) == {StoredSize(4, 3)}


def test_sizes_of_large_sets_are_cached_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index, 'KEEP_FROM', 3)
    paths = [str(tmp_path / f'{i}.jpg') for i in range(4)]
    for path in paths:
        Image.new('RGB', (4, 3)).save(path)
    read_sizes('train', paths)
    monkeypatch.setattr(image_headers, 'read_size', lambda path, reading: StoredSize(9, 9))
    assert set(read_sizes('train', paths).values()) == {StoredSize(4, 3)}
    Image.new('RGB', (400, 300)).save(paths[0])
    assert set(read_sizes('train', paths).values()) == {StoredSize(9, 9)}
