"""Reads and writes videos frame by frame with OpenCV."""
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_DEFAULT_RATE = 25.0  # frames/s of a file that does not state its rate


class BadVideoError(ValueError):
    """A video file cannot be read or written."""


class VideoReader:
    """Reads the frames of a video file, rotated as the file states.

    Attributes:
        path: path of the file.
        rate: frames per second.
        count: number of frames that the header of the file states, which may be wrong; 0 if it states none.

    Raises:
        BadVideoError: the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise BadVideoError(f'{path} does not exist: pass an image, a folder of images, or a video')
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # FFmpeg prints nothing; errors are raised below
        self.path, self._capture = path, cv2.VideoCapture(_file_name(path))
        rate, count = (self._capture.get(prop) for prop in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = rate if 0 < rate < 1000 else _DEFAULT_RATE
        self.count = max(int(count), 0)
        is_readable, self._first = self._capture.read()
        if not is_readable:
            raise BadVideoError(f'{path} cannot be read as a video ({Path(path).stat().st_size:,} bytes): it may be '
                                'cut off, or in a format that OpenCV does not know; convert it, for example to .mp4 '
                                'with H.264')

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the frames (H, W, 3) uint8 RGB. A reader can be iterated over only once."""
        frame, is_readable = self._first, True
        while is_readable:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            is_readable, frame = self._capture.read()
        self._capture.release()


class VideoWriter:
    """Writes a video file in MPEG-4. All frames must have the size of the first frame.

    Args:
        path: path that ends in .mp4.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate, self.count = path, rate, 0
        self._writer: cv2.VideoWriter | None = None

    def add(self, frame: np.ndarray) -> None:
        """Appends a frame (H, W, 3) uint8 RGB.

        The format needs even numbers of rows and columns. If a number is odd, the last row or column is removed.

        Raises:
            BadVideoError: this OpenCV has no encoder for the format.
        """
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(_file_name(self.path), code, self.rate, (width, height))
            if not self._writer.isOpened():
                raise BadVideoError(f'a video of {width}x{height} pixels cannot be written to {self.path.parent}: '
                                    'OpenCV cannot encode it; install opencv-python, whose builds have FFmpeg, or '
                                    'extract the frames and pass their folder')
        self._writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        """Closes the file, and checks that it contains all frames, because OpenCV does not report errors.

        Raises:
            BadVideoError: frames are missing.
        """
        if self._writer is None:
            return
        self._writer.release()
        written = int(cv2.VideoCapture(_file_name(self.path)).get(cv2.CAP_PROP_FRAME_COUNT))
        if written < self.count:
            raise BadVideoError(f'{written} of {self.count} frames were written to {self.path.parent}: the disk may be '
                                'full, free some space and run the same command again')


def _file_name(path: str | Path) -> Any:
    """The name of a file for OpenCV, which crashes on a str that is not UTF-8."""
    name = str(path)
    return name if name.isascii() or os.name == 'nt' else os.fsencode(name)
