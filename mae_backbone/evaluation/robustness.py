"""Table of a classifier's accuracy on many image sets, kept so that a killed run continues."""
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mae_backbone.evaluation.imagenet_c import ALEXNET_ERRORS, EXTRA_CORRUPTIONS, STRENGTHS, mean_corruption_error
from mae_backbone.evaluation.imagenet_variants import STRENGTH_FOLDERS
from mae_backbone.evaluation.metrics import label_ranks
from mae_backbone.utils.atomic_write import write_text


def accuracies(net: nn.Module, dataset: Dataset, labels: Sequence[int] | np.ndarray, *, batch_size: int = 64,
               workers: int = 1) -> dict[str, float]:
    """Top-1 and top-5 accuracy of a classifier in percent, and the numbers of images and classes.

    Predictions are restricted to the classes that occur in the set, as ImageNet-A and -R, which have 200 of the 1,000
    classes, are evaluated.

    Args:
        net: `ViTClassifier` in evaluation mode.
        dataset: its items are dict(inputs=uint8 (3, H, W), data_samples=label).
        labels: of all its images.
        batch_size, workers: of the data loader.
    """
    classes = torch.from_numpy(np.unique(np.asarray(labels)))
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=pseudo_collate)
    ranks = []
    with torch.inference_mode():
        for batch in loader:
            outputs = net.test_step(batch)  # type: ignore[operator]  # of MMEngine's BaseModel
            scores = torch.stack([output['scores'] for output in outputs]).cpu()[:, classes]
            true = torch.tensor([output['label'] for output in outputs])
            ranks.append(label_ranks(scores, torch.searchsorted(classes, true)))
    rank = torch.cat(ranks)
    return {'top-1': 100 * float((rank < 1).double().mean()), 'top-5': 100 * float((rank < 5).double().mean()),
            'images': len(rank), 'classes': len(classes)}


class Table:
    """Rows by name in a JSON file, written after each of them.

    Args:
        path: of the file.
        settings: settings of all rows. Rows with other settings are dropped.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        self.path, self.settings = path, settings
        self.rows: dict[str, dict] = {}
        if path.is_file():
            try:
                kept = json.loads(path.read_text(encoding='utf-8'))
                self.rows = dict(kept['rows']) if kept['about'] == settings else {}
            except (ValueError, KeyError, TypeError):  # not written by this package: overwritten
                pass

    def add(self, name: str, images: dict[str, str], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Returns the row of that name, measured if it is missing or of other images.

        If a set's images have changed, all rows of the old images are dropped.
        """
        old = self.rows.get(name, {}).get('of')
        if old != images:
            self.rows = {other: row for other, row in self.rows.items() if old is None or row['of'] != old}
            self.rows[name] = {**measure(), 'of': images}
            write_text(self.path, json.dumps({'about': self.settings, 'rows': self.rows}, indent=1), durable=True)
        return self.rows[name]


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError if two sets have the same name: the table would keep the later one only."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f'several sets are called {", ".join(repeated)}: pass the parent folder of each, whose name '
                         'then precedes the name of the set, or rename one')


def is_imagenet(classes: Sequence[str]) -> bool:
    """True if class names are the 1,000 WordNet ids of ImageNet."""
    return len(classes) == 1000 and all(re.fullmatch(r'n\d{8}', name) for name in classes)


def as_markdown(rows: dict[str, dict], *, imagenet: bool = False) -> str:
    """Formats rows as a table; SET/CORRUPTION/1 to SET/CORRUPTION/5 become one row with their mean.

    A line for each corrupted set follows: ImageNet-C's mCE if all of its 15 corruptions were measured at five strengths
    on the 1,000 classes of ImageNet (`imagenet`), otherwise the mean error.
    """
    groups: dict[str, list[dict]] = {}
    for name, row in rows.items():
        parent, _, last = name.rpartition('/')
        groups.setdefault(f'{parent}/' if parent and last in STRENGTH_FOLDERS else name, []).append(row)
    lines = ['| set | images | classes | top-1 | top-5 | error |', '|---|---|---|---|---|---|']
    corrupted: dict[str, dict[str, list[dict]]] = {}
    for name, group in groups.items():
        top1, top5 = (_mean(group, key) for key in ('top-1', 'top-5'))
        if name.endswith('/'):
            corrupted.setdefault(name.split('/')[0], {})[name.split('/')[-2]] = group
            name = f'{name[:-1]}, {len(group)} strengths'
        lines.append(f'| {name} | {group[0]["images"]:,} | {group[0]["classes"]:,} | {top1:.1f} | {top5:.1f} | '
                     f'{100 - top1:.1f} |')
    for name, corruptions in corrupted.items():
        if not corruptions.keys() <= set(EXTRA_CORRUPTIONS):
            lines += ['', _summary(name, corruptions, imagenet=imagenet)]
    return '\n'.join(lines) + '\n'


def _summary(name: str, corruptions: dict[str, list[dict]], *, imagenet: bool) -> str:
    """One line about the rows of each corruption of a set."""
    errors = {corruption: 100 - _mean(group, 'top-1') for corruption, group in corruptions.items()}
    extra = [corruption for corruption in errors if corruption in EXTRA_CORRUPTIONS]
    counted = [error for corruption, error in errors.items() if corruption not in extra]
    text = f'{name}: mean error {np.mean(counted):.1f} over {len(counted)} corruptions'
    text += f', without {", ".join(extra)}, which are not among the 15 of ImageNet-C' if extra else ''
    complete = all(len(corruptions.get(corruption, [])) == len(STRENGTHS) for corruption in ALEXNET_ERRORS)
    if imagenet and complete and all(row['classes'] == 1000 for group in corruptions.values() for row in group):
        return f'{text}; mCE {mean_corruption_error(errors):.1f} (errors divided by the errors of AlexNet)'
    return (f"{text}. ImageNet-C's mCE needs its 15 corruptions at five strengths on the 1,000 classes of ImageNet, "
            'named by their WordNet ids')


def _mean(rows: Sequence[dict], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))
