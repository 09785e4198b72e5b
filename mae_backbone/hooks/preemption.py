"""A run that is told to stop saves and leaves: SIGTERM, SIGUSR1 (Slurm before the time is up) and Ctrl-C."""
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch import distributed as dist

from mae_backbone.checkpoints.run_files import INTERRUPTED
from mae_backbone.engine.optim_wrapper import between_steps
from mae_backbone.registry import HOOKS

SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1', 'SIGINT') if hasattr(signal, name))


class Interrupted(SystemExit):
    """Ends a run that has saved; the exit code is 128 + the number of the signal, as a shell has it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves `interrupted.pth` at the end of the iteration in which a signal came, and ends the run.

    With gradient accumulation it is the next iteration that makes a step. In a distributed run every process may get
    the signal or only one: after each iteration all begin to exchange what they got, over a gloo group of their own,
    and look at the outcome an iteration later. That costs the GPU nothing and the host no waiting, all leave after
    the same iteration, and a process that was killed is noticed within two iterations, where NCCL takes minutes.

    Args:
        grace: seconds within which the end of the iteration must come; after that the run leaves without saving, such
            as when it hangs. Slurm kills 30 s after SIGTERM by default (KillWait), torchrun too.
    """

    priority = 'LOWEST'  # after the schedulers have stepped and a checkpoint that was due anyway is saved

    def __init__(self, *, grace: float = 25.0) -> None:
        self.grace, self.number = grace, 0
        self.group: dist.ProcessGroup | None = None
        self.exchange: tuple[Tensor, dist.Work] | None = None
        self.timer: threading.Timer | None = None
        self.before: dict[int, object] = {}

    def before_train(self, runner: Runner) -> None:
        """From here on signals wait for the end of an iteration."""
        self.number, self.exchange = 0, None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.group = dist.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._caught) for number in SIGNALS}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Leaves where a signal came, to any process."""
        number = self._agreed()
        if number and not between_steps(runner.optim_wrapper):
            self._leave(runner, number)

    def after_train(self, runner: Runner) -> None:
        """The run is over: signals do again what they did before."""
        self._stop_waiting()
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: do not even save
        if self.number:
            return
        self.number = number
        self.timer = threading.Timer(self.grace, self._give_up)
        self.timer.daemon = True
        self.timer.start()
        _say(f'\n{signal.Signals(number).name}: saving at the end of this iteration')

    def _agreed(self) -> int:
        """The signal that any process got, 0 for none: the same in all of them."""
        if self.group is None:
            return self.number
        before = self.exchange
        number = torch.tensor([self.number])
        self.exchange = number, dist.all_reduce(number, dist.ReduceOp.MAX, group=self.group, async_op=True)
        if before is None:
            return 0
        before[1].wait()
        return int(before[0])

    def _leave(self, runner: Runner, number: int) -> None:
        self._stop_waiting()
        self.number = number  # of another process: what comes now is ignored, but for Ctrl-C
        if self.exchange is not None:
            self.exchange[1].wait()
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, by_epoch=False)
        path = Path(runner.work_dir, INTERRUPTED)
        runner.note_checkpoint(path)
        if self.group is not None:
            dist.barrier(self.group)  # whoever leaves first may take the others with him: torchrun ends them all
        if is_main_process():
            _say(f'{signal.Signals(number).name}: iteration {runner.iter + 1} of {runner.max_iters} saved to {path}; '
                 'the same command with --resume goes on')
        raise Interrupted(number)

    def _stop_waiting(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _give_up(self) -> None:
        _say(f'{signal.Signals(self.number).name}: the iteration did not end within {self.grace:g} s, leaving without '
             'saving; the same command with --resume goes on from the last checkpoint')
        os._exit(128 + self.number)


def start_worker(before: Callable[[int], None] | None, worker: int) -> None:
    """Begins a process that loads data; signals to the whole group of processes are the business of the main one.

    The first SIGTERM is outlived, because a scheduler sends it to all: the main process needs its batches until it has
    saved. The second is the DataLoader's own, and so is an orphan's end, which torch looks after.
    """
    for number in SIGNALS:
        signal.signal(number, _outlive_once if number == signal.SIGTERM else signal.SIG_IGN)
    if before is not None:
        before(worker)


def _outlive_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(60)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
