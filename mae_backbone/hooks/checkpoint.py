"""Hook that saves checkpoints in such a way that the latest one is always complete."""
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mae_backbone.checkpoints.run_files import INTERRUPTED, DiskFullError
from mae_backbone.engine.optim_wrapper import between_steps
from mae_backbone.hooks.scalar_history import store_metrics
from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """CheckpointHook of MMEngine with safer saving. Our Runner uses it instead, with the same options.

    There are four differences. An old checkpoint is deleted only after the new one is complete. During gradient
    accumulation, a checkpoint is saved after the next optimizer step, because accumulated gradients are not saved. If
    the disk is full, an error is logged and the training continues. Only for the last checkpoint of a run, an error is
    raised. A run that continues in a copy of a folder does not remove the best checkpoint of the original.
    """

    # Epoch or iteration of a checkpoint that is delayed until the next optimizer step; None otherwise.
    delayed_step: int | None = None
    # Set by MMEngine: path of the best checkpoint, or of each metric if there are several.
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def before_train(self, runner: Runner) -> None:
        """Restores the state of a resumed run. A best checkpoint in the folder of another run is never removed."""
        super().before_train(runner)
        if self.save_best is None:
            return
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = self._in_this_run(self.best_ckpt_path)
        else:
            self.best_ckpt_path_dict = {key: self._in_this_run(path) for key, path in self.best_ckpt_path_dict.items()}

    def _in_this_run(self, path: str | None) -> str | None:
        """Path of the file with the same name in the folder of this run, which may be a copy of the resumed run."""
        return None if path is None else self.file_backend.join_path(self.out_dir, Path(path).name)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Saves if a checkpoint is due in this iteration or was delayed to it."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.delayed_step is not None and not between_steps(runner.optim_wrapper):
            step = self.delayed_step if self.by_epoch else runner.iter + 1
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Stores the metrics with their iteration, and saves the checkpoint if it is the best one."""
        runner.message_hub.update_info('last_validation', runner.iter)
        store_metrics(runner.message_hub, metrics or {}, at=runner.iter)
        if metrics and self.save_best:
            _check_computed(self.key_indicators, metrics)
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint(self, runner: Runner) -> None:
        if between_steps(runner.optim_wrapper):
            self.delayed_step = runner.epoch + 1 if self.by_epoch else runner.iter + 1
        else:
            super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if between_steps(runner.optim_wrapper):  # MMEngine saves again after a validation with the best result so far
            self.delayed_step = step
            return
        self.delayed_step = None
        before = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        surplus = self._keep(runner, step)
        path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', path)
        try:
            runner.save_checkpoint(self.out_dir, Path(path).name, save_optimizer=self.save_optimizer,
                                   save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
                                   **self.args)
        except DiskFullError as error:
            if meta['iter'] >= runner.max_iters:
                raise
            runner.logger.error(f'{error.strerror}. Training continues and saves again at the next interval')
            self._remember(runner, before)
            return
        self.last_ckpt = path
        runner.note_checkpoint(path)
        if is_main_process():
            for number in surplus:
                Path(self.out_dir, self.filename_tmpl.format(number)).unlink(missing_ok=True)
            Path(runner.work_dir, INTERRUPTED).unlink(missing_ok=True)
        if self.max_keep_ckpts > 0:
            self._remember(runner, before[len(surplus):] + [step] * (step not in before))

    def _keep(self, runner: Runner, step: int) -> list[int]:
        """Adds `step` to the list of kept checkpoints and returns those to delete.

        They are removed from the list when they are deleted. If the run is killed before, the resumed run deletes them.
        """
        if self.max_keep_ckpts <= 0:
            return []
        kept = [*self.keep_ckpt_ids, *([] if step in self.keep_ckpt_ids else [step])]
        runner.message_hub.update_info('keep_ckpt_ids', kept)
        return kept[:max(0, len(kept) - self.max_keep_ckpts)]

    def _remember(self, runner: Runner, steps: list[int]) -> None:
        self.keep_ckpt_ids.clear()
        self.keep_ckpt_ids.extend(steps)
        runner.message_hub.update_info('keep_ckpt_ids', steps)


def _check_computed(names: Sequence[str], metrics: Mapping[str, float]) -> None:
    """Raises ValueError if a metric that selects the best checkpoint was not computed."""
    missing = [name for name in names if name != 'auto' and name not in metrics]
    if missing:
        raise ValueError(f'the best checkpoint is selected by {", ".join(missing)}, but the validation has computed '
                         f'{", ".join(metrics)}: set default_hooks.checkpoint.save_best to one of these')
