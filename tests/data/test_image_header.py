"""Size and bit depth come from the header, and images above the limit are never decoded."""
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.image_files import jpeg, photograph, ramp
from PIL import Image

from mae_backbone.data import decode, image_header
from mae_backbone.data.decode import BadImageError, decode_crop, image_size, read_image
from mae_backbone.data.image_header import SETTING, ImageHeader, max_pixels, read_header
from mae_backbone.data.readers import ArrayReader, ColorReader, TiffReader
from mae_backbone.data.shard_writer import Packing, packed_image
from mae_backbone.data.sources import open_source
from mae_backbone.data.unlabeled import UnlabeledImages


def png(height: int, width: int, *, bits: int = 1) -> bytes:
    """A black PNG of any size in a few bytes for each row of a hundred."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    rows = zlib.compress(bytes((1 + -(-width * bits // 8)) * height))
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


def resized_header(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header states another size."""
    at = next(data.index(marker) for marker in (b'\xff\xc0\0\x11\x08', b'\xff\xc2\0\x11\x08') if marker in data)
    return data[:at + 5] + struct.pack('>HH', height, width) + data[at + 9:]


@pytest.mark.parametrize('kind', ['.jpg', '.png', '.webp', '.bmp', '.tif', '.ppm', '.pgm', '.jp2', '.gif', '.pbm',
                                  '.pam', '.sr', '.hdr', '.pfm'])
def test_size_equals_the_decoded_image(kind: str):
    image = ramp(37, 53)
    if kind in ('.pgm', '.pbm'):
        image = image[..., 0]
    image = image.astype(np.float32) if kind in ('.hdr', '.pfm') else image
    if kind == '.gif':
        file = io.BytesIO()
        Image.fromarray(image).save(file, 'GIF')
        data = file.getvalue()
    else:
        data = cv2.imencode(kind, image)[1].tobytes()
    header = read_header(data)
    assert header is not None
    assert (header.height, header.width) == (37, 53)
    for cut in range(0, min(len(data), 300), 7):
        read_header(data[:cut])  # raises nothing


@pytest.mark.parametrize(('options', 'mode'), [(dict(lossless=True), 'RGB'), (dict(quality=80), 'RGB'),
                                               (dict(lossless=True), 'RGBA'), (dict(quality=80), 'RGBA')])
def test_size_of_every_kind_of_webp(options: dict, mode: str):
    file = io.BytesIO()
    Image.fromarray(photograph(37, 53)).convert(mode).save(file, 'WEBP', **options)
    assert read_header(file.getvalue())[:2] == (37, 53)


@pytest.mark.parametrize(('kind', 'bits'), [('.png', 16), ('.tif', 16), ('.pgm', 16), ('.png', 8)])
def test_bit_depth_comes_from_the_header(kind: str, bits: int):
    image = np.full((5, 7), 65535 if bits == 16 else 255, np.uint16 if bits == 16 else np.uint8)
    assert read_header(cv2.imencode(kind, image)[1].tobytes()) == ImageHeader(5, 7, bits)


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('order', ['<', '>'])
def test_tiff_of_both_byte_orders_and_sizes(big: bool, order: str):
    tifffile = pytest.importorskip('tifffile')
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((37, 53, 3), np.uint16), bigtiff=big, byteorder=order)
    assert read_header(file.getvalue()) == ImageHeader(37, 53, 16, channels=3)


def test_default_limit_is_250_megapixels_or_less_by_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(SETTING, raising=False)
    for memory, limit in ((2**40, 250_000_000), (120_000_000, 10_000_000), (0, 1_000_000)):
        monkeypatch.setattr(image_header, 'available_memory', lambda memory=memory: memory)
        image_header._max_pixels.cache_clear()
        assert max_pixels() == limit
    monkeypatch.setenv(SETTING, '1e9')
    assert max_pixels() == 1_000_000_000
    monkeypatch.setenv(SETTING, 'many')
    with pytest.raises(ValueError, match=f"{SETTING}='many', expected a number of pixels"):
        max_pixels()
    image_header._max_pixels.cache_clear()


@pytest.fixture
def bombs() -> dict[str, bytes]:
    """Images of more than 10,000 pixels in few bytes."""
    gif = io.BytesIO()
    Image.new('P', (200, 200)).save(gif, 'GIF')
    return {'a.png': png(200, 200), 'b.gif': gif.getvalue(), 'c.jpg': resized_header(jpeg(ramp()), 200, 200),
            'd.jpg': resized_header(jpeg(ramp(), progressive=True), 200, 200)}


def test_no_reader_decodes_an_image_above_the_limit(tmp_path: Path, bombs: dict[str, bytes],
                                                    monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SETTING, '10000')
    for function in ('imdecode', 'imdecodemulti'):
        monkeypatch.setattr(cv2, function, lambda *_: pytest.fail('decoded'))
    monkeypatch.setattr(decode.simplejpeg, 'decode_jpeg', lambda *_, **__: pytest.fail('decoded'))
    array = io.BytesIO()
    np.save(array, np.zeros((200, 200, 3), np.uint8))
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
        for call in (image_size, decode.decode, ColorReader().size, lambda data: packed_image(data, Packing()),
                     lambda data: decode_crop(data, (0, 0, 8, 8), (8, 8)),
                     lambda data: ColorReader().crop(data, (0, 0, 8, 8), (8, 8))):
            with pytest.raises(BadImageError, match=f'200x200 pixels .*limit.*{SETTING}'):
                call(data)
        with pytest.raises(BadImageError, match=f'{name} states 200x200 pixels'):
            read_image(tmp_path / name)
    with pytest.raises(BadImageError, match='limit'):
        ArrayReader().size(array.getvalue())


def test_limit_of_the_reader_replaces_the_setting(bombs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SETTING, '10000')
    assert ColorReader(max_pixels=50_000).size(bombs['a.png']) == (200, 200)
    monkeypatch.setenv(SETTING, '1e9')
    with pytest.raises(BadImageError, match='limit is 0'):
        ColorReader(max_pixels=1000).size(bombs['a.png'])
    with pytest.raises(ValueError, match='max_pixels=0'):
        ColorReader(max_pixels=0)


def test_tiff_above_the_limit_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    tifffile = pytest.importorskip('tifffile')
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((200, 200, 3), np.uint8))
    monkeypatch.setenv(SETTING, '10000')
    with pytest.raises(BadImageError, match='limit'):
        TiffReader().size(file.getvalue())


def test_training_skips_images_above_the_limit(tmp_path: Path, bombs: dict[str, bytes],
                                               monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SETTING, '10000')
    for name, data in (bombs | {'good.png': png(20, 20)}).items():
        (tmp_path / name.replace('.gif', '.png')).write_bytes(data)
    images = UnlabeledImages(tmp_path, image_size=8, max_bad_share=1.0)
    for index in range(len(images)):
        images[index]
    assert len(images.bad.known) == len(bombs)
    assert len(open_source(tmp_path)) == len(bombs) + 1


@pytest.mark.parametrize('options', [{}, {'progressive': True}])
def test_jpeg_header_with_too_little_data_is_refused(options: dict):
    data = resized_header(jpeg(ramp(), **options), 8000, 8000)
    for call in (image_size, decode.decode, lambda data: decode_crop(data, (0, 0, 8, 8), (8, 8))):
        with pytest.raises(BadImageError, match=r'states 8000x8000 pixels .*need at least 125,000 bytes, and has'):
            call(data)


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'optimize': True}, {'quality': 1}])
def test_smallest_real_jpeg_has_enough_data(options: dict):
    data = jpeg(np.zeros((4000, 4000, 3), np.uint8), **options)
    assert image_size(data) == (4000, 4000)
    assert len(data) > read_header(data).min_bytes
