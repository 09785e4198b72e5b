"""Programs that another one starts and that end with it, even when it is killed without a word."""
import os
import signal
import threading
import time

_VARIABLE = 'MAE_BACKBONE_PARENT'


def environment_of_a_child() -> dict[str, str]:
    """What a program started from here finds in its environment, for `end_with_parent`."""
    return {**os.environ, _VARIABLE: str(os.getpid())}


def end_with_parent(every: float = 1.0) -> None:
    """Gives this process SIGTERM when the one that started it through `environment_of_a_child` is gone.

    Does nothing in a process that was started otherwise, and on Windows, which does not tell when a parent is gone.

    Args:
        every: seconds between two looks.
    """
    parent = int(os.environ.pop(_VARIABLE, 0))  # taken out: what this process starts has another parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os.kill(os.getpid(), signal.SIGTERM)
    if parent and os.name != 'nt':
        threading.Thread(target=watch, name='end_with_parent', daemon=True).start()
