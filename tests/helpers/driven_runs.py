"""Drivers of runs, such as helpers/micro_runs.py, in a process of their own."""
import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def drive(command: str, folder: Path, **options) -> dict:
    """The answer of tests/helpers/micro_runs.py to a command."""
    return answer('micro_runs.py', command, str(folder), json.dumps(options))


def answer(script: str, *arguments: str) -> dict | list:
    """What a script of tests/helpers prints on its last line."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-W', 'ignore', str(TESTS / 'helpers' / script), *arguments],
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
