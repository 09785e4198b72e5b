"""Pixels of image files: as any viewer shows them, or refused by name."""
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from image_files import difference, ramp, save
from PIL import Image, ImageOps

from mae_backbone.data.decode import BadImage, read_image


@pytest.mark.parametrize(('mode', 'suffix'), [
    ('L', '.png'), ('L', '.jpg'), ('LA', '.png'), ('P', '.png'), ('P', '.tif'), ('1', '.png'), ('1', '.tif'),
    ('RGB', '.png'), ('RGB', '.bmp'), ('RGB', '.ppm'), ('RGB', '.tif'), ('RGBA', '.png'), ('RGBA', '.bmp'),
    ('CMYK', '.jpg'), ('CMYK', '.tif'),
])
def test_colour_models_become_rgb(tmp_path, mode, suffix):
    image = Image.fromarray(ramp()).convert(mode)
    if mode in ('LA', 'RGBA'):
        image.putalpha(Image.fromarray(ramp()[..., 1]))
    image.save(tmp_path / f'a{suffix}', quality=95)
    pixels = read_image(tmp_path / f'a{suffix}')
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert difference(pixels, image.convert('RGB')) <= (4 if suffix == '.jpg' else 0)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_keep_the_upper_8(tmp_path, suffix, channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (9, 7, channels), dtype=np.uint16)
    path = tmp_path / f'a{suffix}'
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    rgb = pixels[..., :3][..., ::-1] if channels > 1 else pixels.repeat(3, axis=-1)
    np.testing.assert_array_equal(read_image(path), rgb >> 8)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f'a{suffix}', exif=exif)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image))
    assert read_image(path).shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert difference(read_image(path), upright) <= 4


def test_names_may_be_unicode_and_suffixes_wrong(tmp_path):
    path = save(tmp_path / 'ünï 日本.jpg', format='PNG')
    np.testing.assert_array_equal(read_image(str(path)), ramp())


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.97])
def test_cut_off_files_are_bad(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f'a{suffix}', noise)
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    reason = {'.jpg': 'is a JPEG cut off', '.png': 'is a PNG cut off'}.get(suffix, '')
    with pytest.raises(BadImage, match=rf'a{suffix} {reason}.*remove it'):
        read_image(path)


def jpeg_with_preview(tmp_path: Path) -> bytes:
    """A JPEG whose header holds a whole smaller JPEG, with an end marker, as cameras write it."""
    preview = save(tmp_path / 'preview.jpg', ramp(12, 16)).read_bytes()
    whole = save(tmp_path / 'whole.jpg', progressive=True).read_bytes()
    return whole[:2] + b'\xff\xff\xe1' + struct.pack('>H', 2 + len(preview)) + preview + whole[2:]


def test_a_jpeg_is_whole_by_its_own_end_and_not_by_that_of_its_preview(tmp_path, monkeypatch):
    data, path = jpeg_with_preview(tmp_path), tmp_path / 'a.jpg'
    # What phones append may look like anything.
    for tail in (b'', bytes(5000), b'\xff\xda\xff\xda'):
        path.write_bytes(data + tail)
        assert difference(read_image(path), read_image(tmp_path / 'whole.jpg')) == 0
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: ramp())  # as versions of OpenCV do that paint the rest grey
    for length in (len(data) - 1, len(data) - 300, len(data) - 900):
        path.write_bytes(data[:length])
        with pytest.raises(BadImage, match=f'is a JPEG cut off after {length} bytes'):
            read_image(path)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', r'is empty \(0 bytes\)'),
    (b'<html>404</html>', r"no image that OpenCV can decode, it begins with b'<html>404</h'"),
    (b'\xff\xd8', 'is a JPEG cut off after 2 bytes'),
    (b'\xff\xd8\xff\xe0\0\0\xff\xe0', 'is a JPEG cut off after 8 bytes'),
    (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 40_000, 40_000, 8, 0, 0, 0, 0))
     + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''), r'refused by OpenCV: .*PIXELS'),
    (cv2.imencode('.tif', ramp().astype(np.float32))[1].tobytes(), r'holds float32 numbers.*0\.\.255'),
], ids=['empty', 'html', 'two bytes', 'header', 'a gigapixel', 'floats'])
def test_what_is_no_image_is_bad_and_named(tmp_path, data, reason):
    path = tmp_path / 'x.jpg'
    path.write_bytes(data)
    with pytest.raises(BadImage, match=rf'x\.jpg .*{reason}'):
        read_image(path)


def test_a_missing_file_is_an_os_error_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        read_image(tmp_path / 'gone.jpg')
