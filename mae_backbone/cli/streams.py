"""Standard streams of a command."""
import io
import os
import select
import sys


def prepare_streams() -> None:
    """Opens the null device in place of closed standard streams, as after `>&-`, and escapes text that stdout lacks.

    Closed streams are None, and the next opened files get their numbers, to which libraries print messages. The
    encoding of a terminal may lack the characters of a class name.
    """
    for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding='utf-8'))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


def reader_has_ended() -> bool:
    """True if stdout is a pipe without a reader. It is replaced by the null device, so that Python can close it."""
    if not hasattr(select, 'poll') or not isinstance(sys.stdout, io.TextIOWrapper):  # Windows has no poll
        return False
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    ended = any(event & select.POLLERR for _, event in pipe.poll(0))
    if ended:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ended
