"""Runs of helpers/micro_runs.py in a process of their own."""
import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def drive(command: str, folder: Path, **options) -> dict:
    """The answer of tests/helpers/micro_runs.py to a command."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get('PYTHONPATH', '')])}
    script = TESTS / 'helpers' / 'micro_runs.py'
    done = subprocess.run([sys.executable, '-W', 'ignore', str(script), command, str(folder), json.dumps(options)],
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
