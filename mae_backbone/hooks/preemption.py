"""Hook that saves a checkpoint and exits on SIGTERM, SIGUSR1 (Slurm, before the time limit) and Ctrl-C."""
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch import distributed as dist

from mae_backbone.checkpoints.run_files import INTERRUPTED
from mae_backbone.engine.optim_wrapper import between_steps
from mae_backbone.engine.signals import STOP_SIGNALS
from mae_backbone.registry import HOOKS

# Commands such as `auto` run trainings too, and have no --resume.
_CONTINUE = 'run the same command again to continue (`train` and `pretrain`: with --resume)'


class Interrupted(SystemExit):
    """Exit of a run that was stopped by a signal after it saved. The exit code is 128 + signal number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves `interrupted.pth` at the end of the iteration in which a signal arrives, and exits.

    With gradient accumulation it waits for the next optimizer step. In a distributed run the signal may reach every
    process or only one. After each iteration all processes start an asynchronous exchange of their signals over a
    separate gloo group, and read its result one iteration later. This costs no GPU time and no waiting, all processes
    exit after the same iteration, and a killed process is noticed within two iterations (NCCL takes minutes). During a
    validation it waits for the end of the validation and of the next iteration.

    Args:
        grace: seconds after which the run exits without saving if the iteration has not ended, because it hangs, or
            because a validation takes longer. A resumed run repeats a validation that was not finished. The default is
            below 30 s, after which Slurm (KillWait) and torchrun kill processes after SIGTERM.
    """

    priority = 'LOWEST'  # after the schedulers have stepped and a checkpoint that is due anyway has been saved

    def __init__(self, *, grace: float = 25.0) -> None:
        self.grace, self.number = grace, 0
        self.group: dist.ProcessGroup | None = None
        self.exchange: tuple[Tensor, dist.Work] | None = None
        self.timer: threading.Timer | None = None
        self.handlers: dict[int, Any] = {}  # that were installed before training

    def before_train(self, runner: Runner) -> None:
        """Installs the signal handlers."""
        self.number, self.exchange = 0, None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.group = cast(dist.ProcessGroup, dist.new_group(backend='gloo'))
        if threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Saves and exits if any process received a signal."""
        number = self._exchanged_signal()
        if number and not between_steps(runner.optim_wrapper):
            self._exit(runner, number)

    def after_train(self, runner: Runner) -> None:
        """Restores the signal handlers."""
        self.after_failed_train(runner)

    def after_failed_train(self, runner: Runner) -> None:
        """Restores the signal handlers after an error, too: the process may continue, as in a notebook."""
        self._stop_timer()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: exit without saving
        if self.number:
            return
        self.number = number
        self.timer = threading.Timer(self.grace, self._give_up)
        self.timer.daemon = True
        self.timer.start()
        _print(f'\n{signal.Signals(number).name}: saving at the end of this iteration')

    def _exchanged_signal(self) -> int:
        """Signal that any process received, 0 for none: the same number in all processes."""
        if self.group is None:
            return self.number
        previous = self.exchange
        number = torch.tensor([self.number])
        self.exchange = number, dist.all_reduce(number, dist.ReduceOp.MAX, group=self.group, async_op=True)
        if previous is None:
            return 0
        previous[1].wait()
        return int(previous[0])

    def _exit(self, runner: Runner, number: int) -> NoReturn:
        self._stop_timer()
        self.number = number  # perhaps from another process; from here on only Ctrl-C has an effect
        if self.exchange is not None:
            self.exchange[1].wait()
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, by_epoch=False)
        path = Path(runner.work_dir, INTERRUPTED)
        runner.note_checkpoint(path)
        if self.group is not None:
            dist.barrier(self.group)  # when the first process exits, torchrun ends the others
        if is_main_process():
            _print(f'{signal.Signals(number).name}: iteration {runner.iter + 1} of {runner.max_iters} saved to {path}; '
                   f'{_CONTINUE}')
        raise Interrupted(number)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _give_up(self) -> None:
        _print(f'{signal.Signals(self.number).name}: the iteration or validation did not end within {self.grace:g} '
               f's, exiting without saving; {_CONTINUE} from the last checkpoint')
        os._exit(128 + self.number)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
