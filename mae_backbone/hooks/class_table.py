"""Hook that reports the results of each class after each validation and test."""
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.evaluation.class_table import merged, to_csv, to_text
from mae_backbone.registry import HOOKS
from mae_backbone.utils.atomic_write import write_text


@HOOKS.register_module()
class ClassTableHook(Hook):
    """Logs a table with the results of each class, and writes it to `classes_val.csv` (or `..._test.csv`).

    The numbers come from metrics with an attribute `class_table` (see `mae_backbone.evaluation.class_table`): our
    `CocoMetric`, `IoUMetric` and `TopKAccuracy`. Scores are in percent. Each validation replaces the file.
    """

    priority = 'LOW'

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the table of the validation."""
        self._write(runner, runner.val_evaluator, 'val')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the table of the test."""
        self._write(runner, runner.test_evaluator, 'test')

    def _write(self, runner: Runner, evaluator: Evaluator, stage: str) -> None:
        table = merged(*(getattr(metric, 'class_table', {}) for metric in evaluator.metrics))
        if is_main_process() and table:
            write_text(Path(runner.work_dir, f'classes_{stage}.csv'), to_csv(table))
            runner.logger.info(f'results of each class, in percent:\n{to_text(table)}')
