"""Options of `benchmark` that would be ignored or change the measurement are refused before it starts."""
import pytest
from helpers.commands import run_command

from mae_backbone.benchmark import loader, step


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch):
    for module in (loader, step):
        monkeypatch.setattr(module, 'run', lambda args: pytest.fail('measured'))


@pytest.mark.parametrize(('arguments', 'message'), [
    (['step', '--warmup', '-1'], "'-1': expected an integer of 0 or more"),  # would drop measured rounds
    (['latency', '--warmup', '-1'], "'-1': expected an integer of 0 or more"),
    (['gpu', '--tiny', '--minutes', '-3'], "'-3': expected a number greater than 0"),
    (['features', '--workers', '-1'], "'-1': expected an integer of 0 or more"),
    (['step', '--image-size', '32', '64', '48'], '--image-size 32 64 48: expected height and width, or one number'),
    (['loader', '--baseline-root', 'images'], 'pass --data-root too')])
def test_options_without_a_meaning_are_refused(arguments, message):
    assert message in run_command('benchmark', *arguments, code=2)
