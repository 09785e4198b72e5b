"""Fingerprints and machines that stand for typical users."""
import numpy as np

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.object_statistics import measure_objects, percentiles

GIGABYTE = 2 ** 30
LAPTOP = Machine('cpu', 'laptop', 8 * GIGABYTE, 8 * GIGABYTE, 4, 100.0, 500.0)
SMALL_GPU = Machine('cuda', 'GPU with 8 GB', 7 * GIGABYTE, 8 * GIGABYTE, 8, 20_000.0, 500.0)
GPU = Machine('cuda', 'GPU with 24 GB', 22 * GIGABYTE, 24 * GIGABYTE, 16, 80_000.0, 500.0)
LARGE_GPU = Machine('cuda', 'GPU with 80 GB', 78 * GIGABYTE, 80 * GIGABYTE, 32, 300_000.0, 2000.0)
MACHINES = (LAPTOP, SMALL_GPU, GPU, LARGE_GPU)
_PHOTOS = dict(mean=[118.0, 112.0, 100.0], std=[60.0, 58.0, 59.0])


def fingerprint(task: str, *, train: int, size: tuple[int, int], unlabeled: int = 0, **options) -> Fingerprint:
    """A fingerprint of images of one size (width, height)."""
    width, height = (percentiles(np.array([side])) for side in size)
    images = {'train': train, 'val': max(1, train // 5)} | ({'unlabeled': unlabeled} if unlabeled else {})
    defaults = _PHOTOS | dict(flat=0.2, exposure=0.2, value_range=[4.0, 240.0], num_sampled=min(256, train),
                              num_compared=train, num_labeled=0 if task == 'pretraining' else train)
    return Fingerprint('/data/own', task, images, width=width, height=height, short_side=min(
        width, height, key=lambda side: side['50']), long_side=max(width, height, key=lambda side: side['50']),
        **(defaults | options))


def objects(size: tuple[int, int], sides: tuple[float, float], *, per_image: int, images: int = 40, ratio: float = 1.0,
            has_masks: bool = True):
    """Objects whose sides are between two numbers of pixels, in images of a size (width, height)."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(images):
        side = np.exp(rng.uniform(*np.log(sides), per_image))
        boxes = np.column_stack([rng.uniform(0, size[0], per_image), rng.uniform(0, size[1], per_image),
                                 side / ratio ** 0.5, side * ratio ** 0.5, np.zeros(per_image)])
        rows.append((boxes, size))
    return measure_objects(rows, has_masks=has_masks)


def users() -> dict[str, tuple[Fingerprint, Machine]]:
    """Six data sets and the machines of their users."""
    cells = objects((256, 256), (6, 50), per_image=30)
    cars = objects((1920, 1080), (12, 200), per_image=8, ratio=0.6, has_masks=False)
    pipes = objects((4000, 3000), (20, 80), per_image=3, has_masks=False)
    return {
        'cells on a laptop': (fingerprint(
            'detection', train=430, size=(256, 256), classes=['nucleus'], class_counts=[19_102], flat=0.8,
            mean=[40.0, 37.0, 45.0], std=[66.0, 62.0, 74.0], objects=cells), LAPTOP),
        'traffic on a GPU with 24 GB': (fingerprint(
            'detection', train=8000, size=(1920, 1080), classes=['car', 'bus', 'person'],
            class_counts=[50_000, 900, 12_000], objects=cars), GPU),
        'defects in large images on a GPU with 8 GB': (fingerprint(
            'detection', train=300, size=(4000, 3000), classes=['crack'], class_counts=[900], objects=pipes,
            mean=[90.0, 90.0, 90.0], gray=True, leaks=4), SMALL_GPU),
        'vessels on a laptop': (fingerprint(
            'segmentation', train=20, size=(565, 584), classes=['background', 'vessel'],
            class_counts=[6_000_000, 250_000], foreground=0.04), LAPTOP),
        'satellite scenes on a GPU with 80 GB': (fingerprint(
            'segmentation', train=2000, size=(1024, 1024), unlabeled=120_000, bits=16, exposure=0.5,
            value_range=[200.0, 3000.0], mean=[900.0, 1000.0, 1100.0], std=[400.0, 410.0, 420.0],
            classes=['water', 'field', 'road'], class_counts=[10**9, 8 * 10**8, 10**7], foreground=0.4), LARGE_GPU),
        'products on a GPU with 8 GB': (fingerprint(
            'classification', train=600, size=(400, 400), classes=['a', 'b', 'c'], class_counts=[300, 200, 100]),
            SMALL_GPU),
    }
