"""A short training has at least 20 log lines, whatever its interval and its epochs."""
from types import SimpleNamespace

import pytest
from helpers.pretraining_runs import log_of, runner
from mmengine.runner import EpochBasedTrainLoop

from mae_backbone.hooks.logger import MIN_LINES, log_interval


def epochs(steps: int, number: int) -> EpochBasedTrainLoop:
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop.dataloader, loop._max_epochs, loop._max_iters = range(steps), number, steps * number
    return loop


def lines_of(loop: object, interval: int) -> int:
    """Lines that MMEngine writes, counted one by one."""
    if not isinstance(loop, EpochBasedTrainLoop):
        return sum((i + 1) % interval == 0 for i in range(loop.max_iters))
    steps = len(loop.dataloader)
    return loop._max_epochs * sum((i + 1) % interval == 0 or (i + 1 == steps <= interval) for i in range(steps))


@pytest.mark.parametrize('loop', [SimpleNamespace(max_iters=length) for length in (1, 7, 20, 39, 40, 999, 1000, 5000)]
                         + [epochs(*shape) for shape in ((3, 2), (3, 7), (10, 5), (57, 1), (57, 3), (300, 4))])
def test_interval_gives_enough_lines_and_is_the_longest_that_does(loop: object):
    interval = log_interval(loop, 50)
    enough = min(MIN_LINES, loop.max_iters)
    assert lines_of(loop, interval) >= enough
    assert all(lines_of(loop, longer) < MIN_LINES for longer in range(interval + 1, 51))


def test_short_run_logs_its_loss(tmp_path):
    runner(tmp_path, [], dict(by_epoch=False, max_iters=22), logger='mae_backbone.RunLoggerHook').train()
    assert sum(' loss: ' in line for line in log_of(tmp_path).splitlines()) == 22


def test_runner_uses_it(tmp_path):
    from mae_backbone.engine.runner import Runner
    hooks = {}
    run = Runner.__new__(Runner)
    run.optim_wrapper, run.model = None, object()
    monkey = pytest.MonkeyPatch()
    monkey.setattr('mmengine.runner.Runner.register_default_hooks', lambda self, given: hooks.update(given))
    monkey.setattr(Runner, '_bare_model', lambda self: object())
    run.register_default_hooks(dict(logger=dict(type='LoggerHook', interval=7)))
    monkey.undo()
    assert hooks['logger'] == dict(type='mae_backbone.RunLoggerHook', interval=7)
