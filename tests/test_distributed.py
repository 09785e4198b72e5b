"""Several processes train as one does: the same losses, the same checkpoints, and one end."""
import re
import signal
from pathlib import Path

import pytest
from test_torture import drive

pytestmark = pytest.mark.slow

# 23 images, 12 a step: the second step of each epoch has 11, which two processes cannot share evenly.
PLAIN = {'iterations': 8, 'save_every': 4, 'model.encoder.drop_path_rate': 0.0}
SHARDED = PLAIN | {'model_wrapper_cfg': dict(type='mae_backbone.FullyShard')}
ACCUMULATED = PLAIN | {'accumulate': 2}
DECAYED = {'optim_wrapper.paramwise_cfg': dict(layer_decay=0.7, norm_decay_mult=0.0), 'optim_wrapper.clip_grad':
           dict(max_norm=0.5)}


def run(name: str, world: int, options: dict, **more: object) -> dict:
    return dict(name=name, world=world, options=options, **more)


def test_two_processes_have_the_losses_of_one(tmp_path: Path):
    one, two, accumulated, both, sharded, sharded_both = drive('ranks', tmp_path, runs=[
        run('one', 1, PLAIN), run('two', 2, PLAIN), run('accumulated', 1, ACCUMULATED), run('both', 2, ACCUMULATED),
        run('sharded', 2, SHARDED), run('sharded_both', 2, SHARDED | ACCUMULATED)])
    for answer in (one, two, accumulated, both, sharded, sharded_both):
        assert set(answer['codes']) == {0}, [path.read_text()[-2000:] for path in tmp_path.glob('*.[01]')]
        assert len(answer['losses']) == 8
    assert one['losses'][3] != pytest.approx(accumulated['losses'][3], abs=1e-5)
    for answer in (two, sharded):
        assert answer['losses'] == pytest.approx(one['losses'], abs=1e-5)
    for answer in (both, sharded_both):
        assert answer['losses'] == pytest.approx(accumulated['losses'], abs=1e-5)


def test_a_sharded_run_goes_on_in_any_number_of_processes(tmp_path: Path):
    sharded, plain = SHARDED | DECAYED, PLAIN | DECAYED
    answers = drive('ranks', tmp_path, runs=[
        run('one', 1, plain),
        run('a', 2, sharded, until=3), run('a', 1, plain, until=5), run('a', 2, plain, until=6), run('a', 2, sharded)])
    assert all(set(answer['codes']) == {0} for answer in answers), [path.read_text()[-2000:]
                                                                    for path in tmp_path.glob('a.*')]
    assert answers[-1]['losses'] == pytest.approx(answers[0]['losses'], abs=1e-5)


def test_a_signal_to_one_process_stops_all_after_the_same_iteration(tmp_path: Path):
    many = PLAIN | {'iterations': 400, 'save_every': 4}
    stopped, = drive('ranks', tmp_path, runs=[run('a', 2, many, signal=signal.SIGUSR1)])
    assert stopped['codes'] == [128 + signal.SIGUSR1] * 2, [path.read_text()[-2000:] for path in tmp_path.glob('a.*')]
    assert stopped['seconds'] < 30
    said = (tmp_path / 'a.0').read_text()
    saved = re.search(r'SIGUSR1: iteration (\d+) of 400 saved', said)
    assert len(stopped['losses']) == int(saved[1])
