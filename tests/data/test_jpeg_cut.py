"""A part that is cut out of a JPEG at its restart markers decodes to the pixels of the whole image."""
import cv2
import numpy as np
import pytest
from helpers.image_files import jpeg, photograph

from mae_backbone.data.decode import decode_crop
from mae_backbone.data.jpeg_cut import cut_jpeg, restart_interval
from mae_backbone.data.jpeg_header import JpegHeader

SAMPLINGS = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
             cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def encoded(pixels: np.ndarray, interval: int, sampling: int = SAMPLINGS[0]) -> bytes:
    settings = (cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling,
                cv2.IMWRITE_JPEG_RST_INTERVAL, interval)
    return cv2.imencode('.jpg', pixels, settings)[1].tobytes()


def cut(data: bytes, box: tuple[int, int, int, int]):
    top, left, height, width = box
    return cut_jpeg(data, JpegHeader.of(data), (top, top + height), (left, left + width))


@pytest.mark.parametrize('sampling', SAMPLINGS)
@pytest.mark.parametrize(('height', 'width', 'interval'), [
    (100, 160, 1), (100, 160, 2), (97, 159, 5), (161, 96, 6), (161, 96, 12), (161, 96, 24), (40, 320, 4)])
def test_crops_are_equal_with_and_without_markers(height, width, interval, sampling):
    pixels = photograph(height, width)
    plain, marked = encoded(pixels, 0, sampling), encoded(pixels, interval, sampling)
    rng = np.random.default_rng(interval)
    parts = 0
    for _ in range(20):
        top, left = (int(rng.integers(0, side - 8)) for side in (height, width))
        box = top, left, int(rng.integers(8, height - top + 1)), int(rng.integers(8, width - left + 1))
        parts += cut(marked, box) is not None
        for size in ((6, 6), (20, 30)):
            np.testing.assert_array_equal(decode_crop(marked, box, size), decode_crop(plain, box, size))
    assert parts


def test_gray_images_are_cut_at_blocks_of_8_pixels():
    pixels = photograph(64, 80)[..., 1]
    marked = encoded(pixels, 2)
    part = cut(marked, (20, 20, 10, 10))
    assert (part.top, part.left, part.height, part.width) == (16, 16, 14, 16)
    np.testing.assert_array_equal(decode_crop(marked, (20, 20, 10, 10), (7, 7)),
                                  decode_crop(encoded(pixels, 0), (20, 20, 10, 10), (7, 7)))


def test_the_part_is_small_and_complete():
    data = encoded(photograph(256, 352), restart_interval(352))
    part = cut(data, (100, 100, 64, 64))
    assert (part.top, part.left, part.height, part.width) == (96, 96, 68, 96)
    assert len(part.data) < len(data) / 6
    assert cv2.imdecode(np.frombuffer(part.data, np.uint8), cv2.IMREAD_COLOR).shape == (68, 96, 3)


@pytest.mark.parametrize('data', [
    jpeg(photograph(64, 64)), jpeg(photograph(64, 64), progressive=True, restart_marker_rows=1),
    encoded(photograph(64, 64), 3)], ids=['no markers', 'progressive', 'not aligned with the rows'])
def test_other_files_are_not_cut(data):
    assert cut(data, (40, 40, 8, 8)) is None
    np.testing.assert_allclose(decode_crop(data, (40, 40, 8, 8), (8, 8)), photograph(64, 64)[40:48, 40:48], atol=80)


def test_a_file_with_a_missing_marker_is_not_cut():
    data = encoded(photograph(64, 64), 1)
    assert cut(data, (40, 40, 8, 8)) is not None
    start = JpegHeader.of(data).coded_at
    at = data.index(b'\xff\xd3', start)
    assert cut(data[:at] + b'\xff\x00' + data[at + 2:], (40, 40, 8, 8)) is None
    assert cut(data[:at], (40, 40, 8, 8)) is None


def test_what_follows_the_image_is_left_out():
    data = encoded(photograph(64, 64), 1)
    part, longer = cut(data, (40, 40, 20, 20)), cut(data + b'\xff\xd0' * 1000, (40, 40, 20, 20))
    assert part == longer


@pytest.mark.parametrize(('width', 'interval'), [(1, 1), (16, 1), (256, 2), (341, 2), (384, 3), (512, 4), (683, 1)])
def test_intervals_divide_the_rows(width, interval):
    assert restart_interval(width) == interval
    assert -(-width // 16) % interval == 0
