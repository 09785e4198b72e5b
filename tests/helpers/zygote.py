"""A process that has imported the package, mmdet and mmseg, and forks a copy of itself for each request.

    python tests/helpers/zygote.py

A request is a line of JSON on stdin: dict(module, arguments, output), with a module of tests/helpers that has a
function `answer(*arguments)`. Its result is written to the file `output` as JSON, and what it prints to `output`.log.
The exit code of the copy is the reply, a line on stdout. The process ends when its stdin is closed.
"""
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import torch

IMPORTS = ('mae_backbone.detection', 'mae_backbone.segmentation', 'helpers.micro_runs', 'helpers.rank_runs',
           'helpers.forked_commands')


def handle(request: dict) -> int:
    """Runs a request in a forked copy of this process. Returns its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        log = os.open(request['output'] + '.log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            result = importlib.import_module(request['module']).answer(*request['arguments'])
            Path(request['output']).write_text(json.dumps(result))
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    replies = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # imports may print
    for name in IMPORTS:
        importlib.import_module(name)
    # torch replaces its thread pool at the first use after a fork. Two threads that do this at once end the process.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(torch.get_num_threads()))
    for line in sys.stdin:
        print(handle(json.loads(line)), file=replies, flush=True)


if __name__ == '__main__':
    main()
