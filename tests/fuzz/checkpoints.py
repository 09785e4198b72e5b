"""Checkpoints of every kind that is read, and what reads them: starts of a training, --resume, test, predict."""
import argparse
import copy
import io
import pickle
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fuzz.mutations import mutate_bytes, mutate_content, mutate_inside
from fuzz.sandbox import Step
from helpers.image_files import photograph
from helpers.micro_runs import finish, fork, run_config, train, warm_up, write_data
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from PIL import Image
from safetensors.torch import save

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.run_files import load_model, read_run
from mae_backbone.cli.main import main
from mae_backbone.core.vit import ViT
from mae_backbone.hooks.reconstruction import draw_reconstructions
from mae_backbone.planning.match_classes import checkpoint_classes
from mae_backbone.prediction.predictor import Predictor

RUNS = ('pretraining', 'detection', 'segmentation', 'classification')
ITERATIONS = 3  # of the runs; the resumed ones take two more
COMMANDS_OF = 25  # the commands themselves read one of so many files
SUFFIXES = {'public': '.pth', 'legacy': '.pth', 'pickle': '.pkl', 'pickle 5': '.pkl', 'safetensors': '.safetensors'}
# Bytes of a file of torch; its pickle, in an archive with correct checksums; and the values in it.
KINDS = ('pretraining bytes', 'pretraining pickle', *(f'{run} content' for run in RUNS), *SUFFIXES)


class Runs:
    """A short run of every task, with its data, config and checkpoint."""

    def __init__(self, folder: Path, tasks: tuple[str, ...] = RUNS) -> None:
        self.folder, self.image = folder, folder / 'image.png'
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(40, 56)).save(self.image)
        self.configs: dict[str, Config] = {}
        self.checkpoints: dict[str, Path] = {}
        for task in tasks:
            data = write_data(task, folder / f'{task}_data')
            cfg = run_config(task, folder / task, data, iterations=ITERATIONS, save_every=ITERATIONS)
            cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=5, by_epoch=False)]
            cfg.train_cfg.pop('val_interval', None)
            for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
                cfg[key] = None
            warm_up(copy.deepcopy(cfg))
            # In a process of its own: threads of this one would not survive the forks.
            if finish(fork(copy.deepcopy(cfg), folder / f'{task}.log')):
                raise RuntimeError((folder / f'{task}.log').read_text())
            self.checkpoints[task] = next((folder / task).glob(f'*_{ITERATIONS}.pth'))
            if task == 'classification':
                cfg.train_cfg.max_epochs += 1
            else:
                cfg.train_cfg.max_iters += 2
            if task == 'classification':
                cfg.test_dataloader = copy.deepcopy(cfg.train_dataloader)
                cfg.test_dataloader.dataset.train = False
            self.configs[task] = cfg
            cfg.dump(str(self.config_path(task)))

    def config_path(self, task: str) -> Path:
        return self.folder / f'{task}.py'


class CheckpointKind:
    """Mutated checkpoints of a kind.

    Args:
        kind: one of `KINDS`.
        folder: for the files.
        runs: the runs whose files are mutated.
    """

    def __init__(self, kind: str, folder: Path, runs: Runs) -> None:
        self.kind, self.folder, self.runs = kind, folder, runs
        self.task, _, self.way = kind.partition(' ') if kind not in SUFFIXES else ('pretraining', '', kind)
        self.data = runs.checkpoints[self.task].read_bytes()
        self.content = read_run(runs.checkpoints[self.task])
        self.encoder: ViT = MODELS.build(runs.configs['pretraining'].model).mae.encoder

    def write(self, index: int, rng: random.Random) -> Path:
        """Writes the mutated checkpoint of an index."""
        path = self.folder / f'{index:06}{SUFFIXES.get(self.kind, ".pth")}'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._mutated(rng) if index else self.seed())
        return path

    def seed(self) -> bytes:
        """The file that is mutated."""
        weights = dict(self.content['state_dict'])
        if self.kind == 'safetensors':
            return save(weights)
        if self.kind.startswith('pickle'):
            return pickle.dumps(dict(model=_arrays(weights)), protocol=5 if self.kind.endswith('5') else 2)
        if self.kind in SUFFIXES:
            return _torch_file(dict(model=weights), _use_new_zipfile_serialization=self.kind == 'public')
        return self.data

    def _mutated(self, rng: random.Random) -> bytes:
        if self.kind in SUFFIXES:
            return self._mutated_public(rng)
        if self.way == 'bytes':
            return mutate_bytes(self.data, rng)
        if self.way == 'pickle':
            return mutate_inside(self.data, rng)
        return _torch_file(mutate_content(self.content, rng, leaf=mutate_leaf))

    def _mutated_public(self, rng: random.Random) -> bytes:
        weights = dict(self.content['state_dict'])
        arrays = _arrays(weights)
        public = dict(model=weights, args=argparse.Namespace(lr=1e-3), epoch=3)
        if self.kind == 'safetensors':
            return _mutated_safetensors(save(weights), rng)
        if self.kind.startswith('pickle'):
            protocol = 5 if self.kind.endswith('5') else 2
            content = mutate_content(dict(model=arrays), rng, leaf=mutate_leaf) if rng.random() < 0.3 else dict(
                model=arrays)
            return mutate_bytes(pickle.dumps(content, protocol=protocol), rng)
        if rng.random() < 0.5:
            public = mutate_content(public, rng, leaf=mutate_leaf)
        data = _torch_file(public, _use_new_zipfile_serialization=self.kind == 'public')
        return mutate_inside(data, rng) if self.kind == 'public' and rng.random() < 0.5 else mutate_bytes(data, rng)

    def steps(self, path: Path, index: int) -> list[Step]:
        """Uses of a checkpoint."""
        uses: dict[str, Callable[[], object]] = {}
        if self.task == 'pretraining':
            uses['pretrained'] = lambda: load_encoder(copy.deepcopy(self.encoder), path)
        if self.kind not in SUFFIXES:
            uses['run'] = partial(self.use_run, path)
        if index % COMMANDS_OF == 0:
            uses |= self._commands(path)
        return [Step(path.name, target, use) for target, use in uses.items()]

    def _commands(self, path: Path) -> dict[str, Callable[[], object]]:
        config, image, out = str(self.runs.config_path(self.task)), str(self.runs.image), path.with_suffix('.out')
        if self.kind in SUFFIXES:
            train_config = str(self.runs.config_path('classification'))
            options = ['--pretrained', str(path), '--work-dir', str(out), '--epochs', '1', '--cfg-options',
                       'test_dataloader=None']  # which is there for `predict`
            return {'train --pretrained': lambda: main(['train', train_config, *options])}
        if self.task == 'pretraining':
            return {'visualize': lambda: main(['visualize', config, str(path), image, '-o', f'{out}.png']),
                    'pretrain --resume': lambda: main(['pretrain', config, '--resume', str(path), '--work-dir',
                                                       str(out)])}
        return {'predict': lambda: main(['predict', config, str(path), image, '-o', str(out)])}

    def use_run(self, path: Path) -> None:
        """Resumes a run, and uses its model."""
        content = read_run(path)  # most files are refused here
        assert isinstance(checkpoint_classes(path), list)
        try:
            self.reconstruct(content, path) if self.task == 'pretraining' else self.predict(path)
        finally:  # a file that one refuses may harm the other
            self.resume(path)

    def resume(self, path: Path) -> None:
        """Continues a run to its end, two iterations later."""
        cfg = copy.deepcopy(self.runs.configs[self.task])
        cfg.work_dir = str(path.with_suffix('.run'))
        cfg.experiment_name = path.stem
        for key in ('test_cfg', 'test_dataloader', 'test_evaluator'):
            cfg[key] = None
        try:
            train(cfg, resume=str(path))
        finally:
            shutil.rmtree(cfg.work_dir, ignore_errors=True)

    def predict(self, path: Path) -> None:
        """Predicts an image, draws and describes the prediction."""
        cfg = copy.deepcopy(self.runs.configs[self.task])
        predictor = Predictor(cfg, path, threshold=0.0)
        image = photograph(40, 56)
        prediction = predictor(image)
        predictor.draw(image, prediction)
        assert 'nan' not in predictor.describe(prediction)

    def reconstruct(self, content: dict, path: Path) -> None:
        """Reconstructs an image."""
        model = MODELS.build(self.runs.configs[self.task].model)
        load_model(model, content, path)
        draw_reconstructions(model, [torch.zeros(3, 16, 16, dtype=torch.uint8)], seed=0)


def _arrays(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The encoder as detectron2's model zoo has it."""
    prefix = 'mae.encoder.'
    return {f'backbone.net.{name.removeprefix(prefix)}': value.numpy() for name, value in weights.items()
            if name.startswith(prefix)}


def _torch_file(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _mutated_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Mutates bytes, or the JSON header with a correct length in front of it."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    length = int.from_bytes(data[:8], 'little')
    header = mutate_bytes(data[8:8 + length], rng)
    return len(header).to_bytes(8, 'little') + header + data[8 + length:]


_DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64,
           torch.float8_e4m3fn, torch.int8, torch.uint16]


def mutate_leaf(value: object, rng: random.Random) -> object:
    """Another tensor, array, log history or value of the same type."""
    if isinstance(value, torch.Tensor):
        return rng.choice(_TENSOR_EDITS)(value, rng)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return rng.choice([value[:0], value.T, value.astype('f8'), value * np.nan, value.astype('>f4'), value[None],
                           value.astype(bool), value.astype('U8'), np.array([None, 'x'], object), value.ravel()[:1]])
    if isinstance(value, HistoryBuffer):
        history = HistoryBuffer()
        history._log_history, history._count_history = (np.full(rng.choice([0, 1, 7]), rng.choice([np.nan, 1e300, -1]))
                                                        for _ in range(2))
        history._max_length = rng.choice([0, -1, 1, 10**6, 10**18])
        return history
    return rng.choice([value, None, 'x', 1, -1, 10**18, float('nan'), [], {}, torch.zeros(3), np.float64(2), b'x'])


_TENSOR_EDITS: list[Callable[[torch.Tensor, random.Random], object]] = [
    lambda value, rng: torch.zeros(value.shape, dtype=rng.choice(_DTYPES)),
    lambda value, rng: value.to(rng.choice(_DTYPES[:3])),
    lambda value, rng: value.T if value.ndim == 2 else value[None],
    lambda value, rng: value.flatten()[:rng.choice([0, 1, 5])],
    lambda value, rng: torch.full_like(value, rng.choice([float('nan'), float('inf'), 1e30, 0]), dtype=torch.float32),
    lambda value, rng: torch.zeros(()).expand(value.shape),
    lambda value, rng: torch.zeros(1).expand(rng.choice([10, 2**20, 2**24, 2**40])),
    lambda value, rng: value.flatten()[:1].reshape(()) if value.numel() else value,
    lambda value, rng: torch.zeros(0, rng.choice([1, 2**62])),
    lambda value, rng: torch.nn.Parameter(value) if value.is_floating_point() else value,
    lambda value, rng: value.to_sparse() if value.ndim else value,
    lambda value, rng: value.numpy(),
]
