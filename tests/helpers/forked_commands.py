"""Commands of the command line in several processes at the same time."""
import importlib
import os
import sys
import tempfile
from pathlib import Path

import mae_backbone.cli.main  # noqa: F401  before the forks


def answer(tasks: list[dict]) -> list[dict]:
    """Runs a command in a process for each of `tasks`.

    Args:
        tasks: dict(arguments, environment), and `module` for the function `main` of another module.

    Returns:
        dict(code, text) of each: its exit code, and what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, str(index)) for index in range(len(tasks))]
        pids = [_start(task, log) for task, log in zip(tasks, logs, strict=True)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        return [dict(code=code, text=log.read_text()) for code, log in zip(codes, logs, strict=True)]


def _start(task: dict, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.environ.clear()
        os.environ.update(task['environment'])
        code = importlib.import_module(task.get('module', 'mae_backbone.cli.main')).main(task['arguments'])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
