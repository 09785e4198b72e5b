from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.small_sets import write_image
from PIL import Image, UnidentifiedImageError

from mae_backbone.data.decode import read_image
from mae_backbone.formats.files import decode_sample, evenly_spaced, image_size, missing_files


def test_missing_files_are_found(tmp_path: Path) -> None:
    (tmp_path / 'in').mkdir()
    for name in ('a.jpg', 'in/b.jpg'):
        (tmp_path / name).write_bytes(b'')
    paths = [str(tmp_path / name) for name in ('a.jpg', 'in/b.jpg', 'in/../a.jpg', 'in/c.jpg', 'out/a.jpg', 'a\0.jpg')]
    assert missing_files(paths) == paths[3:]


def test_evenly_spaced_items_keep_their_order_and_span_the_list() -> None:
    assert evenly_spaced(list(range(3)), 5) == [0, 1, 2]
    drawn = evenly_spaced(list(range(1000)), 50)
    assert drawn == list(range(0, 1000, 20))


def test_evenly_spaced_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f'{i}.png') for i in range(10)]
    for i, path in enumerate(paths):
        write_image(Path(path), (30 + i, 20))
    monkeypatch.setattr('mae_backbone.formats.files.NUM_DECODED', 5)
    assert decode_sample('train', paths) == {path: (30 + i, 20) for i, path in enumerate(paths) if i % 2 == 0}


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp', '.bmp', '.jp2'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
def test_size_equals_the_size_of_the_decoded_image(tmp_path: Path, suffix: str, orientation: int | None) -> None:
    path = tmp_path / f'image{suffix}'
    exif = Image.Exif()
    if orientation is not None and suffix not in ('.bmp', '.jp2'):
        exif[0x0112] = orientation
    Image.new('RGB', (40, 30)).save(path, exif=exif)
    assert image_size(str(path)) == read_image(path).shape[1::-1]


def test_size_of_formats_unknown_to_pil_comes_from_opencv(tmp_path: Path) -> None:
    path = tmp_path / 'image.pam'
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    path.write_bytes(cv2.imencode('.pam', pixels)[1].tobytes())
    with pytest.raises(UnidentifiedImageError):
        Image.open(path)
    assert image_size(str(path)) == (40, 30)
