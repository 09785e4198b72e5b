"""Hook that measures the CPU time of training steps, and records the metrics over this time."""
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS
from mae_backbone.utils.run_logs import CPU_TIME

_INFO = 'cpu_time'  # in the message hub of a checkpoint: CPU and wall-clock seconds at its iteration


@HOOKS.register_module()
class CpuTimeHook(Hook):
    """Writes the minutes that training has taken, and the metrics, at each validation and at the end of the run.

    CPU minutes include all threads of this process and of the processes that load its images. Other work on the machine
    hardly changes them. The start of the run and validations are not counted. A resumed run continues with the count in
    its checkpoint. Each line of the file `CPU_TIME` in the work directory is a JSON object with the keys of
    `cpu_times`.
    """

    priority = 'NORMAL'

    def __init__(self) -> None:
        self.before = (0.0, 0.0)
        self.start: tuple[float, float] | None = None  # None while the time is not counted
        self.training = False

    def before_train(self, runner: Runner) -> None:
        """Starts the clocks."""
        self.before, self.training = _stored(runner.message_hub.runtime_info.get(_INFO)), True
        _end_last_line(Path(runner.work_dir, CPU_TIME))
        self.start = _clocks()

    def before_val(self, runner: Runner) -> None:
        """Stops the clocks."""
        self.before, self.start = self._seconds(), None

    def after_val(self, runner: Runner) -> None:
        """Starts the clocks again."""
        self.start = _clocks() if self.training else None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Records the metrics of a validation."""
        if self.training:
            self._write(runner, metrics or {})

    def after_train(self, runner: Runner) -> None:
        """Records the length of the whole training."""
        self.before, self.start, self.training = self._seconds(), None, False
        self._write(runner, {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Stores the seconds, for a run that is resumed."""
        checkpoint['message_hub']['runtime_info'][_INFO] = list(self._seconds())

    def _seconds(self) -> tuple[float, float]:
        """CPU seconds and wall-clock seconds of training so far."""
        if self.start is None:
            return self.before
        cpu, clock = _clocks()
        return self.before[0] + cpu - self.start[0], self.before[1] + clock - self.start[1]

    @master_only
    def _write(self, runner: Runner, metrics: dict[str, float]) -> None:
        cpu, clock = self._seconds()
        numbers = {name: float(value) for name, value in metrics.items()
                   if isinstance(value, (int, float, np.number))}
        line = {'iter': runner.iter, 'cpu_minutes': round(cpu / 60, 4), 'minutes': round(clock / 60, 4),
                'metrics': numbers}
        with open(Path(runner.work_dir, CPU_TIME), 'a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')


def _stored(seconds: object) -> tuple[float, float]:
    """Returns the seconds that a checkpoint has, or 0 if it was saved without this hook."""
    if isinstance(seconds, list) and len(seconds) == 2 and all(isinstance(value, float) for value in seconds):
        return seconds[0], seconds[1]
    return 0.0, 0.0


def _end_last_line(path: Path) -> None:
    """Ends the last line if a killed run has not written it completely, so that the next line is valid."""
    if path.is_file() and not path.read_bytes().endswith(b'\n'):
        with open(path, 'ab') as file:
            file.write(b'\n')


def _clocks() -> tuple[float, float]:
    """CPU seconds of this process and its children, also of those that have ended, and wall-clock seconds."""
    own = os.times()
    running = sum(map(_cpu_seconds, psutil.Process().children(recursive=True)))
    return own.user + own.system + own.children_user + own.children_system + running, time.perf_counter()


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has just ended
        return 0.0
    return times.user + times.system
