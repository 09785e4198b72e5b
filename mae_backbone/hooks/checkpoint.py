"""When a run saves, and which of its checkpoints stay."""
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mae_backbone.checkpoints.run_files import INTERRUPTED, DiskFullError
from mae_backbone.engine.optim_wrapper import between_steps
from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook; our Runner takes it in its place. All options are the same.

    It differs in three ways. An old checkpoint is deleted after the new one is whole, not before. While gradients are
    accumulated it waits for the step, which would be lost. Where the disk is full it says so and goes on training,
    to try again when the next checkpoint is due; only the last one ends the run.
    """

    waiting: int | None = None  # number of the epoch whose checkpoint waits for the step

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Saves where an iteration, or a checkpoint that waited, says so."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self.waiting is not None and not between_steps(runner.optim_wrapper):
            step = self.waiting if self.by_epoch else runner.iter + 1
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def _save_checkpoint(self, runner: Runner) -> None:
        if between_steps(runner.optim_wrapper):
            self.waiting = runner.epoch + 1 if self.by_epoch else runner.iter + 1
        else:
            super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self.waiting = None
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
            runner.logger.error(f'{error.strerror}. The training goes on, and saves again when it is due')
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
        """Counts `step` among the checkpoints that are there; returns those that are then too many.

        They stay in the list that is saved: killed before they are deleted, the run deletes them when it goes on.
        """
        if self.max_keep_ckpts <= 0:
            return []
        there = [*self.keep_ckpt_ids, *([] if step in self.keep_ckpt_ids else [step])]
        runner.message_hub.update_info('keep_ckpt_ids', there)
        return there[:max(0, len(there) - self.max_keep_ckpts)]

    def _remember(self, runner: Runner, steps: list[int]) -> None:
        self.keep_ckpt_ids.clear()
        self.keep_ckpt_ids.extend(steps)
        runner.message_hub.update_info('keep_ckpt_ids', steps)
