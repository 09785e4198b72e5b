"""Detectors, segmenters and classifiers have the losses of one process in two, and end together."""
import math
import signal
from importlib.util import find_spec

import pytest
from helpers.driven_runs import answer

pytestmark = pytest.mark.slow

TASKS = ('detection', 'segmentation', 'classification')
# The losses of a detector are normalized by its objects: one process takes the batches of two in turn.
MODES = {'detection': 'in_turn', 'segmentation': 'joined', 'classification': 'joined'}
COMPILED = {'compile': dict(backend='eager')}
SHARDED = {'model_wrapper_cfg': dict(type='mae_backbone.FullyShard')}
# Tracing takes longer than the runs: each task has it in one of them.
TWO = {'detection': COMPILED, 'segmentation': {}, 'classification': COMPILED}
RESUMED = {'detection': SHARDED, 'segmentation': SHARDED | COMPILED, 'classification': SHARDED}
AMP = {'optim_wrapper.type': 'mae_backbone.GuardedOptimWrapper', 'optim_wrapper.dtype': 'bfloat16'}
SMALLER = {'train_dataloader.batch_size': 4}  # of one process, for 2 of each of two


def run(task: str, name: str, world: int, iterations: int, **more: object) -> dict:
    return dict(task=task, name=f'{task}_{name}', world=world, iterations=iterations, **more)


def runs_of(task: str) -> dict[str, dict]:
    mode = MODES[task]
    third = dict(mode=mode) if mode == 'joined' else dict(options=SMALLER)
    return {
        'one': run(task, 'one', 1, 6, mode=mode),
        'two': run(task, 'two', 2, 4, options=TWO[task]),
        # Accumulation and mixed precision.
        'one_amp': run(task, 'one_amp', 1, 4, accumulate=2, mode=mode, options=AMP),
        'two_amp': run(task, 'two_amp', 2, 4, accumulate=2, options=AMP),
        # One run, continued by other numbers of processes, sharded or not.
        'resumed_1': run(task, 'resumed', 2, 2, options=RESUMED[task]),
        'resumed_2': run(task, 'resumed', 2, 4),
        'resumed_3': run(task, 'resumed', 1, 6, **third)}


LORA = {'model.backbone.lora': dict(rank=2)}
LORA_RUNS = {
    ('segmentation', 'lora_one'): run('segmentation', 'lora_one', 1, 4, mode='joined', options=LORA),
    ('segmentation', 'lora_two'): run('segmentation', 'lora_two', 2, 2, options=LORA | SHARDED | COMPILED),
    ('segmentation', 'lora_resumed'): run('segmentation', 'lora_two', 2, 4, options=LORA)} if find_spec('peft') else {}
RUNS = {(task, name): one for task in TASKS for name, one in runs_of(task).items()} | LORA_RUNS | {
    ('detection', 'killed'): run('detection', 'killed', 2, 10_000, signal=signal.SIGKILL),
    # A process that stands still, such as one whose disk does not answer.
    ('classification', 'stopped'): run('classification', 'stopped', 2, 10_000, signal=signal.SIGSTOP,
                                       options={'env_cfg.dist_cfg.timeout': 4})}


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict]:
    """Exit codes and losses of all runs."""
    folder = tmp_path_factory.mktemp('ranks')
    answers = answer('helpers.rank_runs', str(folder), list(RUNS.values()))
    return dict(zip(RUNS, answers, strict=True))


def steps(result: dict, mode: str | None = None) -> list[list[float]]:
    """Losses of a run by step: of each process, or their mean if they are `joined`."""
    losses = result['losses']
    if mode == 'in_turn':
        return [losses[0][i:i + 2] for i in range(0, len(losses[0]), 2)]
    by_step = [list(values) for values in zip(*losses, strict=True)]
    return [[math.fsum(values) / len(values)] for values in by_step] if mode == 'joined' else by_step


def assert_equal(task: str, result: dict, reference: dict, tolerance: float, *, first: int = 0) -> None:
    """The losses of two processes, from a step on, are those of one."""
    two = steps(result, 'joined' if MODES[task] == 'joined' else None)[first:]
    one = steps(reference, MODES[task])[first:first + len(two)]
    assert len(two) == len(one) > 0
    for a, b in zip(two, one, strict=True):
        assert a == pytest.approx(b, abs=tolerance)


@pytest.mark.parametrize('task', TASKS)
def test_two_processes_have_the_losses_of_one(results: dict, task: str):
    one, two = results[task, 'one'], results[task, 'two']
    assert len(steps(one, MODES[task])) == 6
    assert len(set(map(tuple, steps(one, MODES[task])))) == 6  # they change
    assert_equal(task, two, one, 1e-5)
    assert two['losses'][0] != pytest.approx(two['losses'][1], abs=1e-5)  # each has its own images


@pytest.mark.parametrize('task', TASKS)
def test_accumulated_gradients_in_bfloat16(results: dict, task: str):
    one, two = results[task, 'one_amp'], results[task, 'two_amp']
    # A product of a joined batch is rounded otherwise than two of its halves.
    assert_equal(task, two, one, 1e-5 if MODES[task] == 'in_turn' else 5e-3)
    exact = [value for values in steps(results[task, 'two']) for value in values]
    assert [value for values in steps(two) for value in values] != pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize('task', TASKS)
def test_a_run_continues_in_any_number_of_processes(results: dict, task: str):
    one = results[task, 'one']
    assert_equal(task, results[task, 'resumed_1'], one, 1e-5)
    assert_equal(task, results[task, 'resumed_2'], one, 1e-5, first=2)
    last = results[task, 'resumed_3']['losses'][0]
    assert len(last) == 6
    assert all(map(math.isfinite, last))
    if MODES[task] == 'joined':
        assert last[4:] == pytest.approx(one['losses'][0][4:], abs=1e-5)


@pytest.mark.skipif(not LORA_RUNS, reason='peft is not installed')
def test_adapters_sharded_and_compiled_have_the_losses_of_one_process(results: dict):
    one = results['segmentation', 'lora_one']
    assert_equal('segmentation', results['segmentation', 'lora_two'], one, 1e-5)
    assert_equal('segmentation', results['segmentation', 'lora_resumed'], one, 1e-5, first=2)
    losses = one['losses'][0]
    assert len(set(losses)) == 4
    assert losses[1:] != pytest.approx(results['segmentation', 'one']['losses'][0][1:4], abs=1e-5), 'fewer weights'


@pytest.mark.parametrize(('task', 'name'), [('detection', 'killed'), ('classification', 'stopped')])
def test_a_process_that_is_lost_ends_the_other_with_one_message(results: dict, task: str, name: str):
    lost = results[task, name]
    assert lost['codes'] == [2, -signal.SIGKILL]
    assert lost['seconds'] < 30
    assert lost['text'].count('error: ') == 1, lost['text']
    assert 'error: process 0: another process of this run has ended or does not answer' in lost['text']
    assert 'the same command with --resume continues' in lost['text']
    assert 'Traceback' not in lost['text']
