"""kill -9 at any moment, again and again, changes nothing: the losses are those of a run that nobody killed."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def drive(command: str, folder: Path, **options) -> dict:
    """The answer of tests/micro_runs.py to a command."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': os.pathsep.join([str(TESTS.parent), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-W', 'ignore', str(TESTS / 'micro_runs.py'), command, str(folder),
                           json.dumps(options)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_bit_of_any_loss(tmp_path: Path):
    answer = drive('kill', tmp_path, attempts=50, iterations=120, accumulate=2, save_every=3)
    said = (tmp_path / 'killed.log').read_text()
    assert answer['deaths'] == 50
    assert set(answer['codes']) == {0}, said[-3000:]
    whole, *others = answer['losses']
    assert len(whole) == 120
    assert len(set(whole)) == 120
    assert all(losses == whole for losses in others)
    assert said.count('resumed epoch') > 15  # many kills fall into the start
    assert answer['left'] == ['iter_118.pth', 'iter_120.pth']
