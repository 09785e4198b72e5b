"""Small labeled sets of images with any number of channels, in the layouts of the three tasks."""
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

SIDE = 48
Save = Callable[[Path, np.ndarray], None]


def save_npy(path: Path, pixels: np.ndarray) -> None:
    np.save(path.with_suffix('.npy'), pixels)


def save_tiff(path: Path, pixels: np.ndarray) -> None:
    import tifffile
    tifffile.imwrite(path.with_suffix('.tif'), pixels, planarconfig='contig', photometric='minisblack')


def save_png(path: Path, pixels: np.ndarray) -> None:
    """RGB to a PNG."""
    assert cv2.imwrite(str(path.with_suffix('.png')), np.ascontiguousarray(pixels[..., ::-1]))


SUFFIXES = {save_npy: '.npy', save_tiff: '.tif', save_png: '.png'}


def scene(index: int, channels: int, dtype: type) -> tuple[np.ndarray, list[int]]:
    """Noise with a bright rectangle: image (SIDE, SIDE, channels), and the box x, y, width, height."""
    rng = np.random.default_rng(index)
    scale = 1 if dtype == np.uint8 else 40
    pixels = rng.integers(0, 60, (SIDE, SIDE, channels)) * scale
    x, y, width, height = *rng.integers(2, 20, 2), *rng.integers(10, 24, 2)
    pixels[y:y + height, x:x + width] += np.arange(1, channels + 1) * 150 // channels * scale
    return pixels.astype(dtype), [int(number) for number in (x, y, width, height)]


def write_set(task: str, root: Path, save: Save, *, channels: int, dtype: type = np.uint8, images: int = 4) -> Path:
    """Writes a set; returns the folder of its validation images."""
    boxes: dict[str, list] = {'train': [], 'val': []}
    for split, start in (('train', 0), ('val', 100)):
        for i in range(images):
            pixels, box = scene(start + i, channels, dtype)
            folder = {'detection': root / split, 'classification': root / split / ('ab'[i % 2]),
                      'segmentation': root / 'images' / {'train': 'training', 'val': 'validation'}[split]}[task]
            folder.mkdir(parents=True, exist_ok=True)
            save(folder / f'{i}', pixels)
            boxes[split].append(box)
            if task == 'segmentation':
                labels = np.zeros((SIDE, SIDE), np.uint8)
                x, y, width, height = box
                labels[y:y + height, x:x + width] = 1
                maps = root / 'annotations' / folder.name
                maps.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(maps / f'{i}.png'), labels)
    if task == 'segmentation':
        (root / 'classes.txt').write_text('ground\nroof\nroad\n')
        return root / 'images' / 'validation'
    if task == 'detection':
        (root / 'annotations').mkdir()
        for split, rows in boxes.items():
            (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(dict(
                images=[dict(id=i, file_name=f'{i}{SUFFIXES[save]}', width=SIDE, height=SIDE) for i in range(images)],
                annotations=[dict(id=i + 1, image_id=i, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0,
                                  segmentation=[[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2],
                                                 box[1] + box[3], box[0], box[1] + box[3]]])
                             for i, box in enumerate(rows)], categories=[dict(id=1, name='roof')])))
    return root / 'val'
