"""Videos, read and written frame by frame."""
import os
import sys

import numpy as np
import pytest
from helpers.videos import frames, write

from mae_backbone.prediction.video import BadVideoError, VideoReader, VideoWriter


@pytest.mark.parametrize('name', ['a', 'größe 日本', pytest.param('gr\udcfcn', marks=pytest.mark.skipif(
    os.name == 'nt' or sys.platform == 'darwin', reason='names of files are UTF-8'))])
def test_written_frames_are_read_back(tmp_path, name):
    path = tmp_path / f'{name}.mp4'
    write(path, frames())
    reader = VideoReader(path)
    read = list(reader)
    assert (reader.rate, reader.count) == (10.0, 6)
    assert len(read) == 6
    for found, expected in zip(read, frames(), strict=True):
        assert np.abs(found.astype(int) - expected).mean() < 12, 'red stays red, and where it was'


def test_odd_row_and_column_are_dropped(tmp_path):
    write(tmp_path / 'a.mp4', frames(height=49, width=65))
    assert next(iter(VideoReader(tmp_path / 'a.mp4'))).shape == (48, 64, 3)


def test_invalid_file_is_refused(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    with pytest.raises(BadVideoError, match=r'a.mp4 cannot be read as a video \(8 bytes\)'):
        VideoReader(tmp_path / 'a.mp4')
    with pytest.raises(BadVideoError, match='does not exist'):
        VideoReader(tmp_path / 'b.mp4')


def test_truncated_video_is_refused(tmp_path):
    write(tmp_path / 'a.mp4', frames())
    data = (tmp_path / 'a.mp4').read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(data[:len(data) // 2])
    with pytest.raises(BadVideoError, match='cut off'):
        VideoReader(tmp_path / 'cut.mp4')


def test_video_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(BadVideoError, match='64x48 pixels cannot be written'):
        write(tmp_path / 'no' / 'such' / 'a.mp4', frames())


def test_missing_frames_are_noticed(tmp_path):
    writer = VideoWriter(tmp_path / 'a.mp4', 10.0)
    for picture in frames():
        writer.add(picture)
    writer.count += 1  # as if one more had been given, which OpenCV did not write
    with pytest.raises(BadVideoError, match='6 of 7 frames were written'):
        writer.close()
