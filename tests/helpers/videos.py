"""Small videos."""
import numpy as np

from mae_backbone.prediction.video import VideoWriter


def frames(count: int = 6, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A bright square that moves to the right, in red."""
    made = np.zeros((count, height, width, 3), np.uint8)
    for i in range(count):
        made[i, 16:32, 4 * i:4 * i + 16, 0] = 255
    return list(made)


def write(path, pictures: list[np.ndarray], rate: float = 10.0) -> None:
    writer = VideoWriter(path, rate)
    for picture in pictures:
        writer.add(picture)
    writer.close()
