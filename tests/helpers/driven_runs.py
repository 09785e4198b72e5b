"""Runs in forked copies of a process that has imported everything: imports take longer than most runs."""
import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]


def drive(command: str, folder: Path, **options) -> dict:
    """The answer of tests/helpers/micro_runs.py to a command."""
    return answer('helpers.micro_runs', command, str(folder), options)


def answer(module: str, *arguments: object) -> dict | list:
    """The result of `answer(*arguments)` of a module of tests/helpers, run in a forked copy of the zygote."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, 'answer')
        zygote = _zygote()
        request = dict(module=module, arguments=arguments, output=str(output))
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        zygote.stdin.write(json.dumps(request) + '\n')
        zygote.stdin.flush()
        code = zygote.stdout.readline().strip()
        log = Path(f'{output}.log')
        assert code == '0', f'exit code {code or "none"}: ' + (log.read_text()[-3000:] if log.exists() else '')
        return json.loads(output.read_text())


@cache
def _zygote() -> subprocess.Popen:
    """Starts the process once for all tests of this process."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get('PYTHONPATH', '')])}
    process = subprocess.Popen([sys.executable, '-W', 'ignore', str(TESTS / 'helpers' / 'zygote.py')], env=environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    atexit.register(process.communicate)  # closes its stdin, and waits
    return process
