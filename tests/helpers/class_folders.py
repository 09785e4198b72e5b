"""Class folders of generated images."""
from pathlib import Path

import cv2
import numpy as np


def write_classes(root: Path, *, train: int = 12, val: int = 4) -> Path:
    """Two classes of noise, one of which is brighter."""
    chance = np.random.default_rng(0)
    for split, number in (('train', train), ('val', val)):
        for name, level in (('dark', 0), ('light', 120)):
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                image = chance.integers(level, level + 120, (16, 16, 3), dtype=np.uint8)
                cv2.imwrite(str(root / split / name / f'{index:02}.png'), image)
    return root
