"""Training loops that resume at any iteration, bit for bit."""
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mae_backbone.data.counter_rng import hashed
from mae_backbone.data.sampler import PretrainBatchSampler, seed_of_process_0
from mae_backbone.data.seeded import SeededBatches, make_seeded, seed_everything
from mae_backbone.engine.prefetch import prefetch
from mae_backbone.engine.signals import protect_workers
from mae_backbone.registry import LOOPS


@LOOPS.register_module()
class PretrainLoop(EpochBasedTrainLoop):
    """Epochs whose data are a function of the run's seed, the epoch and the iteration.

    A run that is resumed from a checkpoint of any iteration gets the same batches that it would have got; earlier ones
    are not loaded again. Randomness outside of the data, such as dropped paths, is a function of seed, iteration and
    process, so that no state of a random generator needs to be saved.

    Args:
        runner, dataloader: as in mmengine; the dataloader has `batch_sampler.type='mae_backbone.PretrainBatchSampler'`.
        max_epochs: number of epochs to train, or
        max_iters: number of iterations to train.
        val_begin, val_interval, dynamic_intervals: as in mmengine, in epochs.

    Raises:
        ValueError: both or none of max_epochs and max_iters are given, or the dataloader cannot start mid-epoch.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, max_epochs: int | None = None, *,
                 max_iters: int | None = None, val_begin: int = 1, val_interval: int = 1,
                 dynamic_intervals: list[tuple[int, int]] | None = None) -> None:
        if (max_epochs is None) == (max_iters is None):
            raise ValueError(f'train_cfg has max_epochs={max_epochs} and max_iters={max_iters}: set one of them')
        super().__init__(runner, dataloader, max_epochs or 1, val_begin, val_interval, dynamic_intervals)
        self.batches = self.dataloader.batch_sampler
        if not isinstance(self.batches, PretrainBatchSampler):
            raise ValueError(f'train_dataloader has a {type(self.batches).__name__}, which cannot start inside an '
                             "epoch: set batch_sampler=dict(type='mae_backbone.PretrainBatchSampler') and "
                             "sampler=dict(type='mae_backbone.PretrainSampler')")
        if max_iters is not None:
            self._max_iters, self._max_epochs = max_iters, -(-max_iters // len(self.dataloader))
        protect_workers(self.dataloader)

    def run(self) -> torch.nn.Module:
        """Trains to the end."""
        self._find_position()
        return super().run()

    def run_epoch(self) -> None:
        """Trains the rest of an epoch."""
        steps = len(self.dataloader)
        first = self._iter - self._epoch * steps
        self.batches.set_epoch(self._epoch)
        self.batches.start_at(first)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        remaining = min(steps, self._max_iters - self._epoch * steps) - first
        batches = islice(self.dataloader, max(0, remaining))
        for index, batch in enumerate(prefetch(batches, device_of(self.runner)), first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Runs an iteration with random numbers that depend only on seed, iteration and process."""
        torch.manual_seed(int(hashed(self.batches.sampler.seed, self._iter, get_rank())[0]))
        super().run_iter(idx, data_batch)

    def _find_position(self) -> None:
        """Finds the position of a resumed run in its data; refuses the data of another run."""
        steps = len(self.dataloader)
        # A run saved at the end of max_iters has counted its last, partial epoch as a whole one.
        if not 0 <= self._iter - self._epoch * steps <= steps:
            self._epoch: int = self._iter // steps
        hub, data = self.runner.message_hub, dict(images=len(self.batches.sampler), batch=self.batches.global_batch,
                                                  seed=self.batches.sampler.seed, repeats=self.batches.repeats)
        saved = hub.runtime_info.get('data') if self._iter else None
        if saved is None:
            hub.update_info('data', data)
            return
        if not isinstance(saved, dict) or saved.keys() != data.keys():
            raise ValueError(f'the checkpoint describes its data as {saved!r:.80}, which is not what this program '
                             'writes: the file was changed or damaged, copy it again')
        self.batches.sampler.seed = saved['seed']
        if saved != data | dict(seed=saved['seed']):
            raise ValueError(
                f'the run was saved with {saved["batch"]} crops a step (batch_size x processes) out of '
                f'{saved["images"]} images, {saved["repeats"]} crops each, and would continue with {data["batch"]} out '
                f'of {data["images"]}, {data["repeats"]} each: its position in the data and its learning rate would '
                f'change. Set train_dataloader.batch_size={saved["batch"]} / processes and use the same data; or start '
                'a new run from its weights, with --cfg-options load_from=CHECKPOINT and without --resume')


class _SeededLoop:
    """Base of the resumable loops: seeded data, and seeds of the model's random numbers."""

    runner: Runner
    dataloader: DataLoader
    batches: SeededBatches
    _iter: int
    _decide_current_val_interval: Any

    def _make_seeded(self) -> None:
        # With diff_rank_seed the seeds of the processes differ. A checkpoint has only the one of process 0.
        self.batches = make_seeded(self.dataloader, seed=seed_of_process_0(self.runner.seed or 0), rank=get_rank())
        protect_workers(self.dataloader)

    def _find_seeds(self) -> None:
        """Stores the seeds of a new run; restores the seeds of a resumed run."""
        sampler, hub = self.batches.sampler, self.runner.message_hub
        saved = hub.runtime_info.get('seeds') if self._iter else None
        if isinstance(saved, dict):  # runs of version 0.1 have none
            self.batches.seed = int(saved['items'])
            if saved['order'] is not None and hasattr(sampler, 'seed'):
                sampler.seed = int(saved['order'])
                if hasattr(sampler, 'skip'):
                    sampler.skip(0)  # the stream of an InfiniteSampler has the seed of its creation
        else:
            hub.update_info('seeds', dict(items=self.batches.seed, order=getattr(sampler, 'seed', None)))

    def _validate_if_lost(self) -> None:
        """Validates at the position of a resumed run if it is due there and the checkpoint was saved before it.

        Otherwise early stopping and the choice of the best checkpoint would lack it.
        """
        self._decide_current_val_interval()
        validated = self.runner.message_hub.runtime_info.get('last_validation')
        if self._iter and validated != self._iter and self._validation_is_due():
            self.runner.val_loop.run()

    def _validation_is_due(self) -> bool:
        """True if the loop validates after the iterations so far."""
        raise NotImplementedError

    def _seed_iteration(self) -> None:
        """Seeds the random numbers of the model (RoI sampling, dropped paths, mixup) by seed, iteration and process."""
        seed = int(hashed(self.batches.seed, self._iter, get_rank(), -1)[0] >> 1)
        seed_everything(seed)
        torch.manual_seed(seed)  # of the GPUs too


@LOOPS.register_module()
class ResumableIterLoop(_SeededLoop, IterBasedTrainLoop):
    """MMEngine's IterBasedTrainLoop that resumes bit for bit; our Runner uses it instead.

    The random numbers of an item and of a model step are functions of seed, iteration and position. A resumed run skips
    the indices of earlier iterations without loading their data. The losses do not depend on the number of workers.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self._make_seeded()

    def run(self) -> torch.nn.Module:
        """Trains to the end."""
        self._find_seeds()
        self.dataloader_iterator = iter(prefetch(self._endless(self._iter), device_of(self.runner)))
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._validate_if_lost()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self._validation_is_due():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validation_is_due(self) -> bool:
        return (self.runner.val_loop is not None and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0 or self._iter == self._max_iters))

    def run_iter(self, data_batch: Any) -> None:
        """Runs one iteration with its own random numbers."""
        self._seed_iteration()
        super().run_iter(data_batch)

    def _endless(self, iteration: int) -> Iterator[Any]:
        """Batches from an iteration on, in as many passes over the data as needed."""
        sampler = self.batches.sampler
        steps = None if hasattr(sampler, 'skip') else len(self.batches)  # an InfiniteSampler has one endless pass
        self.batches.number = iteration
        first, self.batches.skip = (0, iteration) if steps is None else divmod(iteration, steps)
        for epoch in count(first):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            yield from self.dataloader


@LOOPS.register_module()
class ResumableEpochLoop(_SeededLoop, EpochBasedTrainLoop):
    """MMEngine's EpochBasedTrainLoop that resumes mid-epoch, bit for bit; our Runner uses it instead.

    See `ResumableIterLoop`.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self._make_seeded()

    def run(self) -> torch.nn.Module:
        """Trains to the end."""
        self._find_seeds()
        self.runner.call_hook('before_train')
        self._validate_if_lost()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self._validation_is_due():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validation_is_due(self) -> bool:
        return (self.runner.val_loop is not None and self._epoch >= self.val_begin
                and self._iter == self._epoch * len(self.dataloader)
                and (self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs))

    def run_epoch(self) -> None:
        """Trains the rest of an epoch."""
        steps = len(self.dataloader)
        first = min(max(0, self._iter - self._epoch * steps), steps)
        self.runner.call_hook('before_train_epoch')
        if hasattr(self.batches.sampler, 'set_epoch'):
            self.batches.sampler.set_epoch(self._epoch)
        self.batches.number, self.batches.skip = self._iter, first
        self.runner.model.train()
        if first < steps:
            for index, batch in enumerate(prefetch(self.dataloader, device_of(self.runner)), first):
                self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Runs one iteration with its own random numbers."""
        self._seed_iteration()
        super().run_iter(idx, data_batch)


def device_of(runner: Runner) -> torch.device:
    """Device of the model; the CPU for a model without parameters."""
    parameter = next(runner.model.parameters(), None)
    return torch.device('cpu') if parameter is None else parameter.device
