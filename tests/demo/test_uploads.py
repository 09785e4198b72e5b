"""Uploads: decoded within limits, deleted in any case, and refused in one sentence without the folder."""
import struct
import zlib

import cv2
import numpy as np
import pytest

from mae_backbone.data.decode import BadImageError, Decoding
from mae_backbone.demo.uploads import read_upload

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def png_header(height: int, width: int) -> bytes:
    chunk = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk)) + bytes(99)


def test_an_image_is_read_and_its_file_deleted(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(cv2.imencode('.png', IMAGE[..., ::-1])[1].tobytes())
    assert (read_upload(path) == IMAGE).all()
    assert not path.exists()


@pytest.mark.parametrize(('content', 'message'), [
    (b'no image', r'^b.png is not an image that OpenCV can decode'), (b'', '^b.png '),
    (png_header(60_000, 60_000), r'^b.png states 60000x60000 pixels'),
    (bytes(2001), r'^b.png has 0.0 MB, the limit is 0.0 MB: make it smaller, or start the page with --max-megabytes')])
def test_what_is_no_image_or_too_large_is_refused_and_deleted(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: None)  # nothing is decoded
    path = tmp_path / 'b.png'
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=message):
        read_upload(path, max_bytes=2000)
    assert not path.exists()


def test_options_of_the_training_are_used(tmp_path):
    path = tmp_path / 'c.png'
    path.write_bytes(cv2.imencode('.png', np.full((4, 4), 4095, np.uint16))[1].tobytes())
    assert read_upload(path, reading=Decoding(value_range=(0, 4095))).min() == 255
