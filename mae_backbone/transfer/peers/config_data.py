"""Data and metrics from the config of a task (`Task.compare_to`), for training a peer on the same data."""
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mae_backbone.engine.replacements import our_evaluator
from mae_backbone.engine.runner import Runner
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root, subset_labels
from mae_backbone.planning.bands import use_reader
from mae_backbone.transfer.experiment_dir import Spec, in_percent
from mae_backbone.utils.config_files import drop_scope


class ConfigData:
    """Training batches, validation batches and metrics as `mae-backbone train` builds them from a config.

    On a CPU the images are read in this process, so that its CPU time includes the reading.

    Args:
        spec: spec of the cell, with 'data_root', 'labels', 'seed', 'config_options' (--cfg-options of the training),
            'metrics', 'scale', optionally 'reader' (a reader of color images), and the path of the config in 'where'.
        batch_size: images per step; None for the batch size of the config.

    Attributes:
        cfg: the config, with the classes of the data.
        train, val: loaders of the batches.
        classes: names of the classes.

    Raises:
        ValueError: the data cannot be used.
    """

    def __init__(self, spec: Spec, *, batch_size: int | None = None) -> None:
        self.cfg = Config.fromfile(spec['where']['config'])
        drop_scope(self.cfg._cfg_dict)
        self.cfg.merge_from_dict(spec['config_options'])
        replace_data_root(self.cfg, spec['data_root'])
        lines = use_reader(self.cfg, spec['reader']) if 'reader' in spec else []
        lines += adapt_classes(self.cfg, complete=True) + subset_labels(self.cfg, spec['labels'], seed=spec['seed'])
        print('\n'.join(lines), flush=True)
        for loader in (self.cfg.train_dataloader, self.cfg.val_dataloader):
            if not torch.cuda.is_available() or loader.get('num_workers') == 'auto':
                loader.update(num_workers=0, persistent_workers=False, prefetch_factor=None)
        if batch_size is not None:
            self.cfg.train_dataloader.batch_size = batch_size
        self._spec = spec
        with DefaultScope.overwrite_default_scope(self.cfg.get('default_scope')):
            self.train, self.val = (Runner.build_dataloader(loader, seed=spec['seed'])
                                    for loader in (self.cfg.train_dataloader, self.cfg.val_dataloader))
            self._evaluator = Evaluator(our_evaluator(self.cfg.val_evaluator))
        train, self._val_set = (cast(BaseDataset, loader.dataset) for loader in (self.train, self.val))
        self._evaluator.dataset_meta = self._val_set.metainfo
        self.classes: Sequence[str] = train.metainfo['classes']

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yields the training batches without end."""
        for epoch in count():
            if hasattr(self.train.sampler, 'set_epoch'):
                self.train.sampler.set_epoch(epoch)
            yield from self.train

    def preprocessor(self, **options: Any) -> nn.Module:
        """Builds the data preprocessor of the config, which normalizes, pads and stacks images.

        Args:
            options: values that replace options of the config.
        """
        with DefaultScope.overwrite_default_scope(self.cfg.get('default_scope')):
            return MODELS.build({**self.cfg.model.data_preprocessor, **options}).to(get_device())

    def add_predictions(self, batch: dict[str, Any], samples: list[Any]) -> None:
        """Adds the predictions for a validation batch to the metrics."""
        self._evaluator.process(data_samples=samples, data_batch=batch)

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the predictions since the last call, in percent by name in the table.

        Raises:
            ValueError: the evaluator of the config does not compute a metric of the task, or none is defined.
        """
        logged = self._evaluator.evaluate(len(self._val_set))
        missing = [name for name in self._spec['metrics'] if name not in logged]
        if missing:
            raise ValueError(f'the validation has no {", ".join(missing)}, it has {", ".join(logged)}: correct '
                             '`metrics` of the task in the suite')
        return in_percent(logged, self._spec)
