"""The loop of pretraining: goes on inside an epoch as if it had never stopped."""
from functools import partial
from itertools import islice

import torch
from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mae_backbone.data.counter_rng import hashed
from mae_backbone.data.sampler import PretrainBatchSampler
from mae_backbone.engine.signals import start_worker
from mae_backbone.registry import LOOPS


@LOOPS.register_module()
class PretrainLoop(EpochBasedTrainLoop):
    """Epochs whose data is a function of the run's seed, the epoch and the iteration.

    A run that is resumed, from a checkpoint of any iteration, sees the very batches that it would have seen; those
    before are not read. What chance there is outside the data, such as dropped paths, is a function of seed,
    iteration and process as well, so that no state of random numbers has to be saved.

    Args:
        runner, dataloader: as in mmengine; the dataloader has `batch_sampler.type='mae_backbone.PretrainBatchSampler'`.
        max_epochs: how long to train, or
        max_iters: the same in iterations.
        val_begin, val_interval, dynamic_intervals: as in mmengine, in epochs.

    Raises:
        ValueError: both or none of max_epochs and max_iters, or a dataloader that cannot start inside an epoch.
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
        self.dataloader.worker_init_fn = partial(start_worker, self.dataloader.worker_init_fn)

    def run(self) -> torch.nn.Module:
        """Trains to the end."""
        self._take_up()
        return super().run()

    def run_epoch(self) -> None:
        """Trains what is left of an epoch."""
        steps = len(self.dataloader)
        first = self._iter - self._epoch * steps
        self.batches.set_epoch(self._epoch)
        self.batches.start_at(first)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        left = min(steps, self._max_iters - self._epoch * steps) - first
        for index, batch in enumerate(islice(self.dataloader, max(0, left)), first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """One iteration, with random numbers of its own."""
        torch.manual_seed(int(hashed(self.batches.sampler.seed, self._iter, get_rank())[0]))
        super().run_iter(idx, data_batch)

    def _take_up(self) -> None:
        """Finds the place in the data, and refuses data in which the run has none."""
        steps, seen = len(self.dataloader), self._iter - self._epoch * len(self.dataloader)
        if not 0 <= seen <= steps:  # saved at the end of max_iters, inside what counted as an epoch
            self._epoch = self._iter // steps
        hub, now = self.runner.message_hub, dict(images=len(self.batches.sampler), batch=self.batches.global_batch,
                                                 seed=self.batches.sampler.seed, repeats=self.batches.repeats)
        before = hub.runtime_info.get('data') if self._iter else None
        if before is None:
            hub.update_info('data', now)
            return
        self.batches.sampler.seed = before['seed']
        if before != now | dict(seed=before['seed']):
            raise ValueError(
                f'the run was saved with {before["batch"]} crops a step (batch_size x processes) out of '
                f'{before["images"]} images, {before["repeats"]} crops each, and would go on with {now["batch"]} out '
                f'of {now["images"]}, {now["repeats"]} each: its place in the data and its learning rate would be '
                f'others. Set train_dataloader.batch_size={before["batch"]} / processes and the same data; or start a '
                'new run from its weights, with --cfg-options load_from=CHECKPOINT and without --resume')
