"""Child processes that end with their parent, even when the parent is killed."""
import os
import signal
import threading
import time

_VARIABLE = 'MAE_BACKBONE_PARENT'


def child_environment() -> dict[str, str]:
    """Environment of a child process that calls `end_with_parent`."""
    return {**os.environ, _VARIABLE: str(os.getpid())}


def end_with_parent(every: float = 1.0) -> None:
    """Sends SIGTERM to this process when its parent ends, if the parent started it with `child_environment`.

    Has no effect in other processes, nor on Windows, which does not report the end of a parent.

    Args:
        every: seconds between two checks.
    """
    parent = int(os.environ.pop(_VARIABLE, 0))  # removed: children of this process have another parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os.kill(os.getpid(), signal.SIGTERM)
    if parent and os.name != 'nt':
        threading.Thread(target=watch, name='end_with_parent', daemon=True).start()
