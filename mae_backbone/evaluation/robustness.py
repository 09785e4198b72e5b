"""A classifier on one set after the other: rows of a table that a killed run goes on with."""
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mae_backbone.evaluation.imagenet_variants import EXTRA, STRENGTHS
from mae_backbone.evaluation.metrics import label_ranks
from mae_backbone.utils.atomic_write import write_text


def accuracies(net: nn.Module, dataset: Dataset, labels: Sequence[int], *, batch_size: int = 64,
               workers: int = 1) -> dict[str, float]:
    """Top-1 and top-5 in percent of a classifier on labeled images.

    Guesses are restricted to the classes that occur in the set, as ImageNet-A and -R, which have 200 of the 1,000
    classes, are evaluated.

    Args:
        net: `ViTClassifier` in evaluation mode.
        dataset: its items are dict(inputs=uint8 (3, H, W), data_samples=label).
        labels: of all its images.
        batch_size, workers: of the loader.
    """
    among = torch.from_numpy(np.unique(labels))
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=pseudo_collate)
    ranks = []
    with torch.inference_mode():
        for batch in loader:
            outputs = net.test_step(batch)
            scores = torch.stack([output['scores'] for output in outputs]).cpu()[:, among]
            true = torch.tensor([output['label'] for output in outputs])
            ranks.append(label_ranks(scores, torch.searchsorted(among, true)))
    found = torch.cat(ranks)
    return {'top-1': 100 * float((found < 1).double().mean()), 'top-5': 100 * float((found < 5).double().mean()),
            'images': len(found), 'classes': len(among)}


class Table:
    """Rows by name in a JSON file, which is written after each of them.

    Args:
        path: of the file.
        about: what all rows depend on; rows of something else are thrown away.
    """

    def __init__(self, path: Path, about: dict) -> None:
        self.path, self.about, self.rows = path, about, {}
        if path.is_file():
            try:
                kept = json.loads(path.read_text(encoding='utf-8'))
                self.rows = dict(kept['rows']) if kept['about'] == about else {}
            except (ValueError, KeyError, TypeError):  # not ours: written anew
                pass

    def add(self, name: str, images: dict[str, str], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The row of that name, measured where it is not there yet, or of other images; what these gave goes too."""
        old = self.rows.get(name, {}).get('of')
        if old != images:
            self.rows = {other: row for other, row in self.rows.items() if old is None or row['of'] != old}
            self.rows[name] = {**measure(), 'of': images}
            write_text(self.path, json.dumps({'about': self.about, 'rows': self.rows}, indent=1), durable=True)
        return self.rows[name]


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for two rows of one name, of which the table would keep the later one."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'several sets are called {", ".join(twice)}: pass the folder above each, which then stands '
                         'in its name, or rename one')


def as_markdown(rows: dict[str, dict]) -> str:
    """Rows -> a table; of SET/CORRUPTION/1 to SET/CORRUPTION/5 there is one row with their mean."""
    groups: dict[str, list[dict]] = {}
    for name, row in rows.items():
        above, _, last = name.rpartition('/')
        groups.setdefault(f'{above}/' if above and last in STRENGTHS else name, []).append(row)
    lines, corrupted = ['| set | images | classes | top-1 | top-5 | error |', '|---|---|---|---|---|---|'], {}
    for name, group in groups.items():
        top1, top5 = (float(np.mean([row[key] for row in group])) for key in ('top-1', 'top-5'))
        if name.endswith('/'):
            corrupted.setdefault(name.split('/')[0], {})[name.split('/')[-2]] = 100 - top1
            name = f'{name[:-1]}, {len(group)} strengths'
        lines.append(f'| {name} | {group[0]["images"]:,} | {group[0]["classes"]:,} | {top1:.1f} | {top5:.1f} | '
                     f'{100 - top1:.1f} |')
    for name, errors in corrupted.items():
        counted, extra = [errors[one] for one in errors if one not in EXTRA], [one for one in errors if one in EXTRA]
        without = f', without {", ".join(extra)}, which are none of the 15 of ImageNet-C' if extra else ''
        if counted:
            lines += ['', f'{name}: mean error over {len(counted)} corruptions {np.mean(counted):.1f}{without}. It is '
                      'the plain mean; the mCE of ImageNet-C divides each error by that of AlexNet.']
    return '\n'.join(lines) + '\n'
