"""Steps of `mae-backbone auto`. A finished step is recorded in a file and is not repeated by a later command."""
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_backbone.cli.auto_report import report_page
from mae_backbone.cli.errors import log_rank0
from mae_backbone.cli.training import last_checkpoint
from mae_backbone.evaluation.metrics import metric_text
from mae_backbone.utils.atomic_write import write_text

_MARKS = 'auto.json'
_KEYS = {'arguments', 'data', 'steps'}


class AutoRun:
    """Plan, pretraining, training and test of a data set in one folder.

    Args:
        folder: folder of all results, which exists.
        data: folder of the data.
        options: options of `mae_backbone.plan`: task, unlabeled, pretrained, hours.

    Raises:
        ValueError: the folder holds a run of other data or with other options, or the file of finished steps is
            damaged.
    """

    def __init__(self, folder: Path, data: str, options: Mapping[str, Any]) -> None:
        self.folder, self.data, self.options = folder, data, dict(options)
        self.config, self.pretraining_config = folder / 'plan.py', folder / 'plan_pretrain.py'
        self.report = folder / 'index.html'
        self.checkpoint: Path | None = None
        arguments = {'data': os.path.abspath(data), **self.options}
        self.marks = _read_marks(folder / _MARKS)
        if self.marks.setdefault('arguments', arguments) != arguments:
            before = self.marks['arguments']
            different = '; '.join(f'{name}: {_shown(before.get(name))} there, {_shown(arguments[name])} now'
                                  for name in sorted(arguments) if before.get(name) != arguments[name])
            raise ValueError(f'{folder} holds a run with other options ({different}): repeat the options of its first '
                             'command to continue it, or choose another --work-dir')
        self.marks.setdefault('steps', {})

    def run(self) -> dict[str, float]:
        """Runs the remaining steps, and returns the metrics of the test."""
        state = _state_of_files(Path(self.data), without=self.folder)
        if 'plan' not in self.marks['steps']:
            self.marks['data'] = state
        elif (before := self.marks.get('data', state)) != state:
            log_rank0(f'warning: the files in {self.data} have changed since this run was planned '
                      f'({_shown_state(before)} then, {_shown_state(state)} now): its plan and its finished steps '
                      'belong to the earlier files. Choose another --work-dir to start a run with the files of now')
        self._step('plan', self._plan)
        only = not self.pretraining_config.exists() and _is_pretraining(self.config)
        results: dict[str, float] = {}
        if self.pretraining_config.exists() or only:
            config = self.config if only else self.pretraining_config
            self._step('pretrain', lambda: self._train('pretrain', config))
        if not only:
            self._step('train', lambda: self._train('train', self.config))
            self.checkpoint = Path(last_checkpoint(str(self.folder / 'train')))
            results = self._step('test', self._test)
        else:
            self.checkpoint = Path(last_checkpoint(str(self.folder / 'pretrain')))
        write_text(self.report, report_page(self.folder, self.data, str(self.checkpoint), self.marks['steps']))
        return results

    def _step(self, name: str, work: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Does a step, unless the file of finished steps contains it; returns its metrics."""
        done = self.marks['steps'].get(name)
        if done is not None:
            log_rank0(f'{name}: done before, in {done["seconds"] / 60:.1f} minutes')
            for metric, value in done['metrics'].items():
                log_rank0(f'  {metric}: {metric_text(value)}')
            return dict(done['metrics'])
        log_rank0(f'\n==== {name}')
        start = time.monotonic()
        metrics = {key: float(value) for key, value in work().items()}
        self.marks['steps'][name] = dict(seconds=round(time.monotonic() - start, 1), metrics=metrics)
        write_text(self.folder / _MARKS, json.dumps(self.marks, indent=1) + '\n')
        return metrics

    def _plan(self) -> dict[str, float]:
        from mae_backbone.cli.python_api import run_command
        self.pretraining_config.unlink(missing_ok=True)  # of a killed plan, which may have had other data
        run_command('plan', self.data, out=self.config, overwrite=True, **self.options)
        return {}

    def _train(self, command: str, config: Path) -> dict[str, float]:
        """Trains from the last checkpoint of an interrupted run, if there is one."""
        from mae_backbone.cli.python_api import run_command
        folder = self.folder / command
        # Passed also when the run is resumed: the file must then still exist.
        pretrained = last_checkpoint(str(self.folder / 'pretrain')) if (
            command == 'train' and self.pretraining_config.exists()) else None
        results = run_command(command, config, work_dir=folder, resume=True, pretrained=pretrained, amp=True)
        return dict(results or {})

    def _test(self) -> dict[str, float]:
        from mae_backbone.cli.python_api import run_command
        return dict(run_command('test', self.config, self.checkpoint, work_dir=self.folder / 'test'))


def _is_pretraining(config: Path) -> bool:
    return str(Config.fromfile(config).model.get('type')).endswith('MAEPretrainer')


def _shown(value: object) -> str:
    return 'not given' if value is None else str(value)


def _state_of_files(folder: Path, *, without: Path) -> dict[str, float]:
    """Number of files in a folder and time of the last change, except hidden files and the folder of the results."""
    number, changed, excluded = 0, 0.0, os.path.realpath(without)
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders
                      if name[0] != '.' and os.path.realpath(os.path.join(root, name)) != excluded]
        for name in names:
            if name[0] != '.':
                number += 1
                with contextlib.suppress(OSError):  # such as a link to a file that does not exist
                    changed = max(changed, os.stat(os.path.join(root, name)).st_mtime)
    return dict(number=number, changed=changed)


def _shown_state(state: Mapping[str, float]) -> str:
    if not state['number']:
        return 'no files'
    changed = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(state['changed']))
    return f'{state["number"]:,} files, the last of {changed}'


def _read_marks(path: Path) -> dict[str, Any]:
    """Returns the content of the file of finished steps; empty if the file does not exist."""
    if not path.exists():
        return {}
    try:
        marks = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(marks, dict) or not marks.keys() <= _KEYS or not all(
                isinstance(value, dict) for value in marks.values()):
            raise ValueError('unknown content')
    except ValueError as error:
        raise ValueError(f'{path} is damaged ({error}): remove it to start the run again, or choose another '
                         '--work-dir') from error
    return marks
