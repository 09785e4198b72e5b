"""Training on a share of the labels: which images keep theirs."""
import io
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope

from mae_backbone.formats.dataset_spec import DataError, Source, sources


def use_labels(cfg: Config, share: float, *, seed: int = 0) -> list[str]:
    """Leaves `share` of the labeled training images in `cfg`; returns lines for the plan.

    Kept are the first images of an order that `seed` fixes, so that a smaller share is a part of a larger one. Of class
    folders the share is taken class by class, at least one image of each.

    Args:
        cfg: of a run of MMEngine's Runner; its classes are those of the data (`fit_classes`).
        share: in (0, 1], of each data set of the training.
        seed: of the order.

    Raises:
        DataError: the share is no share, or a data set has no labels or is not understood.
    """
    if not 0 < share <= 1:
        raise DataError(f'--labels {share:g}: wanted a share of the labeled images in (0, 1], such as 0.1 for 10 %')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return [_use(source, share, seed) for source in sources(cfg, 'train')]


def _use(source: Source, share: float, seed: int) -> str:
    if source.kind == 'class folders':
        source.cfg.update(fraction=share, seed=seed)
        return f'labels: {share:.4g} of the images of each class folder in {source.root} (seed {seed})'
    if source.kind not in _CLASSES_OF:
        raise DataError(f'--labels {share:g}: {source.cfg.get("type")} has no labels, or is not understood: wanted a '
                        "data set in COCO's format, label maps (BaseSegDataset), or class folders "
                        '(mae_backbone.ClassFolder)')
    if source.cfg.get('indices') is not None:
        raise DataError(f'--labels {share:g}: the training set has indices already, which choose images: leave one of '
                        'the two out')
    dataset, names = _opened(source), source.classes
    order, covered = order_of(len(dataset), lambda i: _CLASSES_OF[source.kind](dataset, i) & {*range(len(names))},
                              len(names), seed)
    kept = order[:max(1, round(share * len(order)))]
    source.cfg.indices = sorted(kept)
    return (f'labels: those of {len(kept):,} of {len(order):,} training images, which show '
            f'{[0, *covered][min(len(kept), len(covered))]} of {len(names)} classes (seed {seed})')


def order_of(count: int, classes_of: Callable[[int], set[int]], classes: int, seed: int) -> tuple[list[int], list[int]]:
    """A random order of `count` images whose first ones show all classes, as far as there are images of them.

    An image goes to the front if it shows a class that those before it in a random order do not: a mild preference for
    images of rare classes, without which a small share has none.

    Args:
        count: of images.
        classes_of: the classes that an image shows, by its index.
        classes: how many there are; the images are asked in turn until all of them were seen.
        seed: of the order.

    Returns:
        The indices of the images, and how many classes the first 1, 2, ... of those at the front show.
    """
    shuffled = np.random.default_rng(seed).permutation(count).tolist()
    seen, front, covered = set(), [], []
    for i in shuffled:
        if len(seen) == classes:
            break
        if not (shown := classes_of(i)) <= seen:
            seen |= shown
            front.append(i)
            covered.append(len(seen))
    taken = set(front)
    return front + [i for i in shuffled if i not in taken], covered


def _opened(source: Source) -> BaseDataset:
    """The data set itself, which knows what it leaves out; of its transforms only the reading of label maps."""
    options = {key: value for key, value in source.cfg.items() if key not in ('type', '_scope_')}
    options['pipeline'] = [step for step in source.cfg.get('pipeline', [])
                           if source.kind == 'label maps' and str(step.get('type')).endswith('LoadAnnotations')]
    with redirect_stdout(io.StringIO()):  # pycocotools talks
        return source.cls(**options)


def _classes_of_boxes(dataset: BaseDataset, index: int) -> set[int]:
    return {one['bbox_label'] for one in dataset.get_data_info(index)['instances'] if not one['ignore_flag']}


def _classes_of_map(dataset: BaseDataset, index: int) -> set[int]:
    return set(np.unique(dataset[index]['gt_seg_map']).tolist())


_CLASSES_OF = {'coco': _classes_of_boxes, 'label maps': _classes_of_map}
