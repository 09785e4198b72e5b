"""Annotations of every kind that is read, and what reads them: the check of the data, then the training's data set."""
import copy
import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fuzz.mutations import mutate_bytes, mutate_content, mutate_png
from fuzz.sandbox import Step
from helpers.micro_runs import CONFIGS, SHRUNK
from helpers.shrink import coco_content, shrink, write_coco, write_label_maps
from helpers.small_sets import write_image
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import Dataset

from mae_backbone.cli.main import main
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.engine.runner import Runner
from mae_backbone.formats.check import check_data
from mae_backbone.planning.adapt_config import adapt_classes

KINDS = ('coco', 'label maps', 'classes.txt', 'class list')
COMMANDS_OF = 25  # the commands themselves read one of so many files


class AcceptedButUnusableError(RuntimeError):
    """The check of the data accepted what the data set of the training cannot read. Counts as a defect."""


class AnnotationKind:
    """Mutated annotations of a kind.

    Args:
        kind: one of `KINDS`.
        folder: for the data.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.root = kind, folder, folder / 'data'
        if kind == 'coco':
            write_coco(self.root)
            self.config = shrink(Config.fromfile(CONFIGS / SHRUNK['detection']), self.root)
        elif kind == 'class list':
            for name in ('cat', 'dog'):
                write_image(self.root / f'{name}.png')
            self.root.joinpath('train.txt').write_text(_LIST)
        else:
            write_label_maps(self.root)
            self.config = shrink(Config.fromfile(CONFIGS / SHRUNK['segmentation']), self.root)
        if kind != 'class list':
            self.config.dump(str(folder / 'config.py'))

    def write(self, index: int, rng: random.Random) -> Path:
        """Writes the mutated annotations of an index outside of the data."""
        suffix = {'coco': '.json', 'label maps': '.png'}.get(self.kind, '.txt')
        path = self.folder / f'{index:06}{suffix}'
        path.write_bytes(self._mutated(rng) if index else self.seed())
        return path

    def seed(self) -> bytes:
        """Annotations that are mutated."""
        if self.kind == 'coco':
            return json.dumps(coco_content('train2017')).encode()
        if self.kind == 'label maps':
            return (self.root / 'annotations' / 'training' / '1.png').read_bytes()
        return (_LIST if self.kind == 'class list' else _COLORS.replace('car  ', 'car ')).encode()

    def _mutated(self, rng: random.Random) -> bytes:
        if self.kind == 'coco':
            data = json.dumps(coco_content('train2017')).encode()
            if rng.random() < 0.2:
                return mutate_bytes(data, rng)
            content = mutate_content(json.loads(data), rng, leaf=mutate_field)
            return json.dumps(content).encode()
        if self.kind == 'label maps':
            return mutate_png((self.root / 'annotations' / 'training' / '1.png').read_bytes(), rng)
        text = _LIST if self.kind == 'class list' else rng.choice(['sky\nroad\ncar\n', _COLORS])
        return mutate_bytes(text.encode(), rng)

    def steps(self, path: Path, index: int) -> list[Step]:
        """Uses of annotations."""
        uses: dict[str, Callable[[], object]] = {'training': partial(self.use, path)}
        if index % COMMANDS_OF == 0 and self.kind != 'class list':
            uses['check'] = partial(self.check, path)
        return [Step(path.name, target, use) for target, use in uses.items()]

    def place(self, path: Path) -> None:
        """Puts annotations into the data."""
        if self.kind == 'coco':
            for split in ('train', 'val'):
                shutil.copy(path, self.root / 'annotations' / f'instances_{split}2017.json')
        elif self.kind == 'label maps':
            for split in ('training', 'validation'):
                shutil.copy(path, self.root / 'annotations' / split / '1.png')
        else:
            shutil.copy(path, self.root / ('train.txt' if self.kind == 'class list' else 'classes.txt'))

    def use(self, path: Path) -> None:
        """Checks the data, then loads every image with its annotations as in training and in validation."""
        self.place(path)
        if self.kind == 'class list':
            dataset: Dataset = ClassFolder(self.root, 'train', train=True, image_size=16)
            load_all(dataset)
            return
        cfg = copy.deepcopy(self.config)
        init_default_scope(cfg.default_scope)
        adapt_classes(cfg)
        check_data(cfg, splits=('train', 'val'))
        try:
            for loader in (cfg.train_dataloader, cfg.val_dataloader):
                load_all(Runner.build_dataloader(loader).dataset)
            if self.kind == 'coco':
                evaluate_nothing(cfg)
        except Exception as error:
            raise AcceptedButUnusableError(f'{type(error).__name__}: {error}') from None

    def check(self, path: Path) -> int:
        """`mae-backbone check`."""
        self.place(path)
        return main(['check', str(self.folder / 'config.py'), '--workers', '1', '-o', str(self.folder / 'samples.png')])


def load_all(dataset: Dataset) -> None:
    """Loads every image of a data set once."""
    for index in range(len(dataset)):  # type: ignore[arg-type]
        dataset[index]


def evaluate_nothing(cfg: Config) -> None:
    """Evaluates predictions without any object."""
    import torch
    from mmdet.structures.mask import encode_mask_results
    from mmengine.registry import METRICS
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
    dataset = Runner.build_dataloader(cfg.val_dataloader).dataset
    for evaluator in evaluators:
        metric = METRICS.build(evaluator)
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            sample = dataset[index]['data_samples']
            nothing = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64),
                           masks=encode_mask_results(torch.zeros(0, 1, 1)))
            metric.process({}, [dict(img_id=sample.img_id, ori_shape=sample.ori_shape, pred_instances=nothing)])
        metric.evaluate(len(dataset))


_LIST = 'cat.png cat\ndog.png dog\ncat.png\tcat\n'
_COLORS = 'sky #000102\nroad #ffffff\ncar  #804080\n- #010101\n'


def mutate_field(value: object, rng: random.Random) -> object:
    """A value that files of other tools have: other types, relative or negative numbers, polygons and RLE of others."""
    return rng.choice([
        None, 0, 1, -1, 2**63, 1e-9, 1e11, float('nan'), float('inf'), '1', 'x', '', True, [], {}, [1, 2, 3, 4],
        [1, 2, 3], [0.1, 0.2, 0.3, 0.4], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 6, 7]], [[[1, 2], [3, 4], [5, 6]]],
        [['a'] * 6], [[float('nan')] * 6], [[1e11] * 6], [[-1e11, 0, 1e11, 0, 0, 1e11]], [{'x': 1}],
        {'counts': [1, 2, 3], 'size': [64, 80]}, {'counts': [64 * 80], 'size': [64, 80]},
        {'counts': [-1, 64 * 80 + 1], 'size': [64, 80]}, {'counts': [2**40], 'size': [2**20, 2**20]},
        {'counts': '0' * 40, 'size': [64, 80]}, {'counts': '\x7f\x00', 'size': [64, 80]},
        {'counts': 'PPPPP', 'size': [64, 80]}, {'counts': [1.5, 5118.5], 'size': [64, 80]},
        {'counts': [0, 64 * 80], 'size': ['64', 80]}, {'counts': [0, 64 * 80], 'size': [64]}, {'size': [64, 80]}])
