"""Generated scenes on disk: COCO annotations, label maps and class folders."""
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from mae_backbone.quickstart import patterns, scenes
from mae_backbone.quickstart.scenes import CLASSES, SEGMENTS, check_size, render_object, render_scene

# Colors at full resolution. The usual half resolution changes such colorful textures by 8 of 255 on average.
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
STAMP = 'mae_backbone-scenes.json'  # marks a folder that was written here and may be replaced


def write_scenes(root: Path, *, unlabeled: int, train: int, val: int, size: int = 96, seed: int = 0) -> None:
    """Writes the data set of the quickstart to the folder `root`.

        unlabeled/*.jpg                            scenes for pretraining
        images/{train,val}/*.jpg                    scenes for detection and segmentation
        annotations/instances_{train,val}.json      their boxes and masks, in COCO's format
        segments/{train,val}/*.png                  their label maps, pixel value = line of classes.txt, from 0
        classes/{train,val}/<class>/*.jpg           objects for classification

    The folder is written next to `root` under a hidden name and renamed once complete. A complete data set with the
    same parameters is kept; one with other parameters is replaced.

    Args:
        root: folder of the data set.
        unlabeled: number of scenes for pretraining.
        train, val: number of labeled scenes of each split, and of images of single objects.
        size: side of the images in pixels.
        seed: random seed. The first images do not depend on how many are written.

    Raises:
        ValueError: a number is too small.
        FileExistsError: `root` holds something that this function did not write.
    """
    root = Path(root)
    check_size(size)
    _check_counts(unlabeled=unlabeled, train=train, val=val)
    stamp = {'unlabeled': unlabeled, 'train': train, 'val': val, 'size': size, 'seed': seed,
             'source': _source()}
    if _stamp_of(root) == stamp:
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f'.{root.name}-') as staging:
        new = Path(staging, 'new')
        _write_unlabeled(new, _seeds(seed, 0), number=unlabeled, size=size)
        for stream, (split, number) in enumerate({'train': train, 'val': val}.items(), start=1):
            _write_scenes(new, split, _seeds(seed, stream), number=number, size=size)
            _write_objects(new, split, _seeds(seed, stream + 2), number=number, size=size)
        (new / 'classes.txt').write_text('\n'.join(SEGMENTS) + '\n', encoding='utf-8')
        (new / STAMP).write_text(json.dumps(stamp, indent=2), encoding='utf-8')
        if root.exists():
            root.rename(Path(staging, 'old'))
        new.rename(root)


def _check_counts(*, unlabeled: int, train: int, val: int) -> None:
    if unlabeled < 0 or min(train, val) < len(CLASSES):
        raise ValueError(f'unlabeled={unlabeled}, train={train}, val={val}: use 0 or more unlabeled scenes, and '
                         f'at least {len(CLASSES)} for train and val, one object of each class')


def _source() -> str:
    """Returns a hash of the code that draws and writes."""
    files = (patterns.__file__, scenes.__file__, __file__)
    return hashlib.sha256(b''.join(Path(file).read_bytes() for file in files)).hexdigest()


def _stamp_of(root: Path) -> dict[str, Any] | None:
    """Returns the parameters of a complete data set, or None if there is nothing at `root`."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        return json.loads((root / STAMP).read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise FileExistsError(f'{root} exists and has no readable {STAMP}, so it was not written here: choose another '
                              'folder, or move it away') from error


def _seeds(*key: int) -> Iterator[int]:
    """Yields independent seeds for the images of a stream. The n-th does not depend on how many are used."""
    return (int(np.random.SeedSequence([*key, index]).generate_state(1, np.uint64)[0]) for index in itertools.count())


def _save(path: Path, image: np.ndarray) -> None:
    """Writes an image, RGB or indices, in the format of the suffix of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image[:, :, ::-1] if image.ndim == 3 else image
    done, data = cv2.imencode(path.suffix, pixels, JPEG if path.suffix == '.jpg' else [])
    assert done, f'OpenCV could not encode {path}'
    path.write_bytes(data.tobytes())  # cv2.imwrite returns False if the disk is full; this raises


def _write_unlabeled(root: Path, seeds: Iterator[int], *, number: int, size: int) -> None:
    (root / 'unlabeled').mkdir(parents=True)
    for index, seed in enumerate(itertools.islice(seeds, number)):
        _save(root / f'unlabeled/{index:06d}.jpg', render_scene(seed, size=size).image)


def _write_scenes(root: Path, split: str, seeds: Iterator[int], *, number: int, size: int) -> None:
    coco: dict[str, Any] = {
        'info': {'description': 'generated by mae_backbone.quickstart.scenes'}, 'images': [], 'annotations': [],
        'categories': [{'id': i, 'name': name, 'supercategory': ''} for i, name in enumerate(CLASSES, start=1)]}
    for index, seed in enumerate(itertools.islice(seeds, number)):
        scene = render_scene(seed, size=size)
        _save(root / f'images/{split}/{index:06d}.jpg', scene.image)
        _save(root / f'segments/{split}/{index:06d}.png', scene.segments)
        coco['images'].append({'id': index + 1, 'file_name': f'{index:06d}.jpg', 'width': size, 'height': size})
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            coco['annotations'].append({'id': len(coco['annotations']) + 1, 'image_id': index + 1, 'iscrowd': 0,
                                        'category_id': int(label) + 1, **_outline_of(mask)})
    target = root / f'annotations/instances_{split}.json'
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(coco), encoding='utf-8')


def _outline_of(mask: np.ndarray) -> dict[str, Any]:
    """Returns the box, area and mask of a (H, W) bool in COCO's format."""
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    return {'bbox': rle.toBbox(code).tolist(), 'area': int(mask.sum()),
            'segmentation': {'size': list(mask.shape), 'counts': code['counts'].decode()}}


def _write_objects(root: Path, split: str, seeds: Iterator[int], *, number: int, size: int) -> None:
    for index, seed in enumerate(itertools.islice(seeds, number)):
        label = index % len(CLASSES)
        _save(root / f'classes/{split}/{CLASSES[label]}/{index:06d}.jpg', render_object(seed, label, size=size))
