"""Images are decoded as viewers show them or refused with a reason; crops equal those of PIL."""
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.image_files import difference, jpeg, photograph, ramp, save
from PIL import Image, ImageOps

from mae_backbone.data import decode as decode_module
from mae_backbone.data.decode import (
    BadImageError,
    Box,
    Decoding,
    decode,
    decode_crop,
    image_size,
    read_image,
    without_animation,
)


@pytest.mark.parametrize(('mode', 'suffix'), [
    ('L', '.png'), ('L', '.jpg'), ('LA', '.png'), ('P', '.png'), ('P', '.tif'), ('1', '.png'), ('1', '.tif'),
    ('RGB', '.png'), ('RGB', '.bmp'), ('RGB', '.ppm'), ('RGB', '.tif'), ('RGBA', '.png'), ('RGBA', '.bmp'),
    ('CMYK', '.jpg'), ('CMYK', '.tif'),
])
def test_color_models_become_rgb(tmp_path, mode, suffix):
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
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f'a{suffix}', exif=exif, **({'lossless': True} if suffix == '.webp' else {}))
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image))
    assert read_image(path).shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert difference(read_image(path), upright) <= 4


def test_tiff_of_many_channels_names_the_reader(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    for planar in ('contig', 'separate'):
        pixels = np.zeros((9, 7, 5) if planar == 'contig' else (5, 9, 7), np.float32)
        tifffile.imwrite(tmp_path / 'a.tif', pixels, photometric='minisblack', planarconfig=planar)
        with pytest.raises(BadImageError, match=r'5 channels of 32 bits, expected gray.*TiffReader reads up to'):
            read_image(tmp_path / 'a.tif')


def test_unicode_names_and_wrong_suffixes_work(tmp_path):
    path = save(tmp_path / 'ünï 日本.jpg', format='PNG')
    np.testing.assert_array_equal(read_image(str(path)), ramp())


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.97])
def test_truncated_files_raise(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f'a{suffix}', noise)
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    reason = {'.jpg': 'is a JPEG truncated', '.png': 'is a PNG truncated'}.get(suffix, '')
    with pytest.raises(BadImageError, match=rf'a{suffix} {reason}.*remove it'):
        read_image(path)


def jpeg_with_preview(tmp_path: Path) -> bytes:
    """A JPEG whose header holds a whole smaller JPEG, with an end marker, as cameras write it."""
    preview = save(tmp_path / 'preview.jpg', ramp(12, 16)).read_bytes()
    whole = save(tmp_path / 'whole.jpg', progressive=True).read_bytes()
    return whole[:2] + b'\xff\xff\xe1' + struct.pack('>H', 2 + len(preview)) + preview + whole[2:]


def test_end_marker_of_a_preview_does_not_count(tmp_path, monkeypatch):
    data, path = jpeg_with_preview(tmp_path), tmp_path / 'a.jpg'
    # What phones append may look like anything.
    for tail in (b'', bytes(5000), b'\xff\xda\xff\xda'):
        path.write_bytes(data + tail)
        assert difference(read_image(path), read_image(tmp_path / 'whole.jpg')) == 0
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: ramp())  # as versions of OpenCV do that paint the rest gray
    for length in (len(data) - 1, len(data) - 300, len(data) - 900):
        path.write_bytes(data[:length])
        with pytest.raises(BadImageError, match=f'is a JPEG truncated after {length} bytes'):
            read_image(path)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', r'is empty \(0 bytes\)'),
    (b'<html>404</html>', r"not an image that OpenCV can decode, it starts with b'<html>404</h'"),
    (b'\xff\xd8', 'is a JPEG truncated after 2 bytes'),
    (b'\xff\xd8\xff\xe0\0\0\xff\xe0', 'is a JPEG truncated after 8 bytes'),
    (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 40_000, 40_000, 8, 0, 0, 0, 0))
     + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''), r'states 40000x40000 pixels .*limit'),
    (cv2.imencode('.tif', ramp().astype(np.float32))[1].tobytes(), r'holds float32 numbers.*0\.\.255'),
], ids=['empty', 'html', 'two bytes', 'header', 'a gigapixel', 'floats'])
def test_other_content_raises_with_the_name(tmp_path, data, reason):
    path = tmp_path / 'x.jpg'
    path.write_bytes(data)
    with pytest.raises(BadImageError, match=rf'x\.jpg .*{reason}'):
        read_image(path)


def test_missing_file_raises_an_oserror_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        read_image(tmp_path / 'gone.jpg')


# ---- crops

def pil_crop(data: bytes, box: Box, size: tuple[int, int], *, bilinear: bool = False) -> np.ndarray:
    top, left, height, width = box
    with Image.open(io.BytesIO(data)) as file:
        crop = ImageOps.exif_transpose(file).convert('RGB').crop((left, top, left + width, top + height))
    return np.array(crop.resize(size[::-1], Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC))


@pytest.fixture
def no_opencv(monkeypatch):
    """The fast way alone."""
    monkeypatch.setattr(decode_module, 'decode', lambda _: pytest.fail('decoded by OpenCV'))


BOXES = [(0, 0, 129, 200), (11, 23, 90, 120), (60, 0, 90, 200), (149, 199, 1, 1), (0, 0, 37, 37), (40, 50, 64, 48)]


@pytest.mark.parametrize('options', [{'quality': 93}, {'quality': 93, 'subsampling': 0}, {'progressive': True},
                                     {'quality': 50, 'subsampling': 1}, {'restart_marker_rows': 1}], ids=str)
@pytest.mark.parametrize('box', BOXES)
@pytest.mark.usefixtures('no_opencv')
def test_jpeg_crop_equals_pil(box, options):
    data = jpeg(photograph(150, 200), **options)
    assert image_size(data) == (150, 200)
    for bilinear in (False, True):
        crop = decode_crop(data, box, (64, 48), interpolation='bilinear' if bilinear else 'bicubic')
        assert difference(crop, pil_crop(data, box, (64, 48), bilinear=bilinear)) <= 3


@pytest.mark.usefixtures('no_opencv')
def test_gray_jpeg_has_three_equal_channels():
    data = jpeg(photograph(150, 200)[..., 0])
    for box in BOXES:
        crop = decode_crop(data, box, (64, 48))
        assert difference(crop, pil_crop(data, box, (64, 48))) <= 3
        assert (crop == crop[..., :1]).all()


def test_crops_of_images_whose_orientation_is_ignored_are_crops_of_the_stored_image():
    exif, stored = Image.Exif(), Decoding(ignore_orientation=True)
    exif[0x0112] = 6
    turned, plain = (jpeg(photograph(150, 200), **options) for options in ({'exif': exif}, {}))
    assert image_size(turned, stored) == (150, 200)
    box = (3, 20, 120, 70)
    assert (decode_crop(turned, box, (64, 48), decoding=stored) == decode_crop(plain, box, (64, 48))).all()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.usefixtures('no_opencv')
def test_box_refers_to_the_displayed_image(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(photograph(150, 200), exif=exif, quality=95)
    assert image_size(data) == ((200, 150) if orientation > 4 else (150, 200))
    for box in ((3, 20, 120, 70), (80, 30, 64, 48), (0, 0, 20, 110)):
        out = np.empty((64, 48, 3), np.uint8)
        assert decode_crop(data, box, (64, 48), out=out) is out
        assert difference(out, pil_crop(data, box, (64, 48))) <= 3
        assert (decode_crop(data, box, (64, 48)) == out).all()


@pytest.mark.parametrize('orientation', [1, 6, 3])
@pytest.mark.parametrize(('side', 'factor'), [(65, 1), (66, 2), (131, 2), (132, 4), (264, 8), (700, 8)])
def test_scale_is_reduced_only_if_the_crop_keeps_its_pixels(monkeypatch, side, factor, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = cv2.GaussianBlur(photograph(700, 720), (0, 0), 12)
    data, decoded = jpeg(smooth, exif=exif, quality=95), []
    decoder = decode_module.simplejpeg.decode_jpeg
    monkeypatch.setattr(decode_module.simplejpeg, 'decode_jpeg',
                        lambda *args, **options: decoded.append(decoder(*args, **options)) or decoded[-1])
    for start in {0, min(5, 700 - side), 700 - side}:
        box = (start, start, side, side)
        crop = decode_crop(data, box, (32, 32))
        assert decoded[-1].shape[1] == -(-720 // factor)
        # A reduced crop begins and ends up to half a reduced pixel away from the box.
        assert difference(crop, pil_crop(data, box, (32, 32))) <= (3 if factor == 1 else 12)


def test_rows_below_the_crop_are_not_decoded(monkeypatch):
    data, rows = jpeg(photograph(160, 64)), []
    decoder = decode_module.simplejpeg.decode_jpeg

    def watched(*args, **options):
        pixels = decoder(*args, **options)
        rows.append(len(pixels))
        return pixels

    monkeypatch.setattr(decode_module.simplejpeg, 'decode_jpeg', watched)
    whole = decode(data)
    for height in range(1, 161, 3):
        crop = decode_crop(data, (0, 0, height, 64), (height, 64))
        np.testing.assert_array_equal(crop, whole[:height])
        assert rows[-1] == min(height + 2, 160)


@pytest.mark.parametrize(('mode', 'suffix'), [
    ('L', '.png'), ('LA', '.png'), ('P', '.png'), ('1', '.tif'), ('RGBA', '.png'), ('CMYK', '.jpg'), ('RGB', '.webp'),
    ('RGB', '.bmp'), ('P', '.gif'),
])
def test_crop_of_other_formats_equals_the_whole_image(tmp_path, mode, suffix):
    image = Image.fromarray(photograph(48, 64)).convert(mode)
    image.save(tmp_path / f'a{suffix}')
    data = (tmp_path / f'a{suffix}').read_bytes()
    assert image_size(data) == (48, 64)
    np.testing.assert_array_equal(decode_crop(data, (4, 5, 30, 40), (30, 40)), decode(data)[4:34, 5:45])
    out = np.empty((16, 24, 3), np.uint8)
    assert decode_crop(data, (4, 5, 30, 40), (16, 24), out=out) is out
    crop = Image.fromarray(decode(data)[4:34, 5:45]).resize((24, 16), Image.Resampling.BICUBIC)
    assert difference(out, crop) <= 2


def test_animation_gives_its_first_frame():
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((20, 30, 3), gray, np.uint8)) for gray in (40, 200)]
    frames[0].save(file, 'WEBP', save_all=True, append_images=frames[1:], lossless=True)
    assert (decode_crop(file.getvalue(), (0, 0, 20, 30), (8, 8)) == 40).all()


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_30_000_pixels_wide(tmp_path, suffix):
    wide = np.tile(np.arange(30_000) % 256, (20, 1)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    data = save(tmp_path / f'a{suffix}', wide, **({'quality': 95} if suffix == '.jpg' else {})).read_bytes()
    assert image_size(data) == (20, 30_000)
    assert difference(decode_crop(data, (2, 29_900, 16, 90), (16, 90)), wide[2:18, 29_900:29_990]) <= 8


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.97, 0.999])
def test_crop_of_a_truncated_jpeg_raises(progressive, share):
    data = jpeg(photograph(150, 200), progressive=progressive)
    data = data[:int(share * len(data))]
    with pytest.raises(BadImageError, match=f'^is a JPEG truncated after {len(data)} bytes .no end marker.: replace'):
        decode_crop(data, (0, 0, 10, 10), (8, 8))


def test_previews_and_trailing_data_do_not_change_a_crop(tmp_path):
    data = jpeg_with_preview(tmp_path)
    plain = decode_crop((tmp_path / 'whole.jpg').read_bytes(), (0, 0, 30, 60), (16, 16))
    for tail in (b'', bytes(5000), b'\xff\xda\xff\xda'):
        np.testing.assert_array_equal(decode_crop(data + tail, (0, 0, 30, 60), (16, 16)), plain)
    for length in (len(data) - 1, len(data) - 300, len(data) - 900):
        with pytest.raises(BadImageError, match='is a JPEG truncated'):
            decode_crop(data[:length], (0, 0, 30, 60), (16, 16))


@pytest.mark.parametrize('data', [b'', b'<html>404</html>', b'\xff\xd8', b'\xff\xd8\xff\xd9',
                                  b'\xff\xd8\xff\xe0\0\0\xff\xd9',
                                  b'\xff\xd8\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0\xff\xd9'])
def test_crop_and_size_of_other_content_raise(data):
    for ask in (image_size, lambda data: decode_crop(data, (0, 0, 1, 1), (8, 8))):
        with pytest.raises(BadImageError, match=r'or remove it$'):
            ask(data)


def test_random_bytes_do_not_crash_the_decoder():
    """Broken in any one place, a file is bad or gives a crop of the right shape."""
    random, whole = np.random.default_rng(0), np.frombuffer(jpeg(photograph(40, 56)), np.uint8)
    for at in [*range(2, 700, 5), *random.integers(700, len(whole) - 2, 40)]:
        data = whole.copy()
        data[at:at + 2] = random.integers(0, 256, 2)
        try:
            size = image_size(data.tobytes())
            assert decode_crop(data.tobytes(), (0, 0, min(size[0], 20), min(size[1], 20)), (8, 8)).shape == (8, 8, 3)
        except BadImageError:
            pass


@pytest.mark.parametrize('box', [(-1, 0, 8, 8), (0, 0, 0, 8), (0, 0, 49, 8), (40, 0, 9, 8), (0, 60, 8, 5)])
@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_box_outside_the_image_raises(tmp_path, box, suffix):
    data = save(tmp_path / f'a{suffix}').read_bytes()
    with pytest.raises(ValueError, match=r'box .* is not inside an image of 48x64'):
        decode_crop(data, box, (8, 8))


def test_crop_is_not_changed_by_the_next_one():
    one, two = (jpeg(photograph(60, 80, seed=seed)) for seed in range(2))
    for box, size in (((0, 0, 60, 80), (60, 80)), ((5, 5, 30, 40), (30, 40)), ((5, 5, 30, 40), (16, 16))):
        first = decode_crop(one, box, size)
        before = first.copy()
        decode_crop(two, box, size)
        np.testing.assert_array_equal(first, before)


def test_value_range_maps_12_bits_to_8():
    pixels = np.linspace(0, 4095, 48 * 64).round().astype(np.uint16).reshape(48, 64)
    data = cv2.imencode('.png', pixels)[1].tobytes()
    assert decode(data).max() == 15  # nearly black
    scaled = decode(data, Decoding(value_range=(0, 4095)))
    assert np.abs(scaled[..., 0] - pixels * (255 / 4095)).max() <= 0.5
    clipped = decode(data, Decoding(value_range=(1000, 2000)))[..., 0]
    assert (clipped[pixels <= 1000] == 0).all()
    assert (clipped[pixels >= 2000] == 255).all()


def test_percentiles_scale_each_16_bit_image():
    pixels = np.random.default_rng(0).integers(500, 900, (48, 64), dtype=np.uint16)
    scaled = decode(cv2.imencode('.tif', pixels)[1].tobytes(), Decoding(percentiles=(1, 99)))
    assert (scaled == 0).mean() == pytest.approx(0.01, abs=0.01)
    assert (scaled == 255).mean() == pytest.approx(0.01, abs=0.01)
    assert decode(cv2.imencode('.png', np.full((4, 4), 700, np.uint16))[1].tobytes(),
                  Decoding(percentiles=(1, 99))).max() == 0  # one value: no division by zero


@pytest.mark.parametrize('options', [{'value_range': (0, 4095)}, {'percentiles': (1, 99)}])
def test_8_bits_are_not_scaled(options: dict):
    data = cv2.imencode('.png', ramp())[1].tobytes()
    assert (decode(data, Decoding(**options)) == decode(data)).all()


def test_crop_is_scaled_like_the_whole_image():
    pixels = np.random.default_rng(0).integers(0, 4096, (48, 64), dtype=np.uint16)
    data, decoding = cv2.imencode('.png', pixels)[1].tobytes(), Decoding(value_range=(0, 4095))
    whole = decode(data, decoding)
    assert (decode_crop(data, (3, 5, 20, 30), (20, 30), decoding=decoding) == whole[3:23, 5:35]).all()
    assert (decode_crop(data, (3, 5, 20, 30), (20, 30)) == decode(data)[3:23, 5:35]).all()


@pytest.mark.parametrize('options', [{'value_range': (5, 5)}, {'value_range': (0, 70000)}, {'percentiles': (99, 1)},
                                     {'value_range': (0, 9), 'percentiles': (1, 99)}, {'max_pixels': 0}], ids=str)
def test_decoding_options_out_of_range_raise(options: dict):
    with pytest.raises(ValueError, match=next(iter(options))):
        Decoding(**options).check()


@pytest.mark.parametrize('is_whole', [True, False])
def test_gif_is_read_without_a_gif_decoder_in_opencv(is_whole: bool, monkeypatch: pytest.MonkeyPatch):
    """OpenCV 4.11, which some resolutions install, returns None for every GIF."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize(64).save(buffer, 'GIF')
    expected = np.array(Image.open(buffer).convert('RGB'))
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: None)
    if is_whole:
        np.testing.assert_array_equal(decode(buffer.getvalue()), expected)
    else:
        with pytest.raises(BadImageError, match='is not an image that OpenCV can decode'):
            decode(buffer.getvalue()[:20])


def test_damaged_animation_of_a_png_does_not_crash(tmp_path):
    """OpenCV 4.12 crashes (SIGSEGV) if a frame of an animated PNG is damaged. Its default image is read instead."""
    frames = [Image.fromarray(np.roll(ramp(), shift, 1)) for shift in range(3)]
    path = tmp_path / 'a.png'
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = path.read_bytes()
    assert b'acTL' in data
    plain = without_animation(data)
    assert not {b'acTL', b'fcTL', b'fdAT'} & {plain[i:i + 4] for i in range(len(plain))}
    assert np.array_equal(decode(plain), ramp())
    assert np.array_equal(decode(data), ramp())
    at = data.index(b'fdAT') + 40
    damaged = data[:at] + b'\xff' * 60 + data[at + 60:]
    assert np.array_equal(decode(damaged), ramp())
    start = data.index(b'acTL') - 4
    with pytest.raises(BadImageError, match=f'is a damaged PNG at byte {start}'):
        decode(data[:start] + b'\x7f' + data[start + 1:])
