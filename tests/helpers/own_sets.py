"""Generated data sets of users: boxes, label maps, class folders and images, of any number and size."""
import json
from pathlib import Path

import cv2
import numpy as np


def textured(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A smooth random picture (H, W, 3) uint8 of a size (width, height), unlike any other."""
    small = rng.integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def write_images(root: Path, count: int = 8, size: tuple[int, int] = (64, 48), *, seed: int = 0,
                 suffix: str = '.png') -> list[Path]:
    rng = np.random.default_rng(seed)
    return [save(root / f'{index:04d}{suffix}', textured(rng, size)) for index in range(count)]


def write_boxes(root: Path, *, train: int = 8, val: int = 4, size: tuple[int, int] = (64, 48), side: int = 12,
                per_image: int = 3, masks: bool = True, classes: tuple[str, ...] = ('disc', 'square')) -> Path:
    """A set in COCO's format; objects of the classes are disks and squares of about `side` pixels."""
    rng = np.random.default_rng(1)
    for split, count in (('train', train), ('val', val)):
        images, annotations = [], []
        for index in range(count):
            image = textured(rng, size) // 2
            images.append(dict(id=index + 1, file_name=f'{index:04d}.png', width=size[0], height=size[1]))
            for _ in range(per_image):
                label, length = int(rng.integers(len(classes))), int(rng.integers(side * 3 // 4, side * 5 // 4 + 1))
                x, y = (int(rng.integers(0, limit - length)) for limit in size)
                cv2.rectangle(image, (x, y), (x + length - 1, y + length - 1), (255, 80 * label, 0), -1)
                polygon = [[x, y, x + length, y, x + length, y + length, x, y + length]]
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=index + 1, category_id=label + 1, bbox=[x, y, length, length],
                    area=length * length, iscrowd=0, **(dict(segmentation=polygon) if masks else {})))
            save(root / split / f'{index:04d}.png', image)
        content = dict(images=images, annotations=annotations,
                       categories=[dict(id=label + 1, name=name) for label, name in enumerate(classes)])
        path = root / 'annotations' / f'instances_{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding='utf-8')
    return root


def write_maps(root: Path, *, train: int = 8, val: int = 4, size: tuple[int, int] = (64, 48),
               rare: float = 0.1) -> Path:
    """Label maps of sky, road and sign; signs cover the fraction `rare` of an image."""
    rng = np.random.default_rng(2)
    root.mkdir(parents=True, exist_ok=True)
    (root / 'classes.txt').write_text('sky\nroad\nsign\n', encoding='utf-8')
    for split, count in (('training', train), ('validation', val)):
        for index in range(count):
            labels = np.zeros(size[::-1], np.uint8)
            labels[size[1] // 2:] = 1
            labels[:max(1, round(size[1] * rare)), :] = 2
            image = textured(rng, size) // 2 + (labels * 40)[..., None]
            save(root / 'images' / split / f'{index:04d}.jpg', image.astype(np.uint8))
            save(root / 'annotations' / split / f'{index:04d}.png', labels)
    return root


def write_classes(root: Path, *, train: int = 6, val: int = 3, size: tuple[int, int] = (40, 40),
                  classes: tuple[str, ...] = ('cat', 'dog', 'fox')) -> Path:
    """Class folders with `train` and `val` images of each class, whose colors differ."""
    rng = np.random.default_rng(3)
    for split, count in (('train', train), ('val', val)):
        for label, name in enumerate(classes):
            for index in range(count):
                image = textured(rng, size) // 2
                image[..., label % 3] += 100
                save(root / split / name / f'{index:04d}.png', image)
    return root
