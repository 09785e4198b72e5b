"""Commands of the command line, run in this process."""
import io
import logging
from contextlib import redirect_stderr, redirect_stdout

from mmengine.logging import MMLogger
from mmengine.utils import ManagerMixin

from mae_backbone.cli.main import main


def run_command(name: str, *arguments: object, code: int = 0) -> str:
    """Runs a command, checks its exit code, and returns what it printed."""
    forget_instances()
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        result = main([name, *map(str, arguments)])
    assert result == code, printed.getvalue()[-3000:]
    return printed.getvalue()


def refused(name: str, *arguments: object) -> str:
    """Runs a command that must end in one message and exit code 2; returns the message."""
    printed = run_command(name, *arguments, code=2)
    assert 'Traceback' not in printed
    return printed[printed.index('error: '):]


def forget_instances() -> None:
    """Closes the log files of earlier runs, and removes what MMEngine keeps of them by name."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    logging.getLogger('mae_backbone').handlers = []
    kinds = [ManagerMixin]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    for kind in kinds[1:]:
        kind._instance_dict.clear()
