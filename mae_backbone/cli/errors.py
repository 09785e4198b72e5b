"""Runs a command, handles its signals, and turns its errors into an exit code and one readable message."""
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType

from mae_backbone.cli.raw_errors import explain_raw
from mae_backbone.cli.streams import prepare_streams, reader_has_ended
from mae_backbone.utils.printable import printable_lines
from mae_backbone.utils.subprocesses import end_with_parent

# Messages of gloo and NCCL when another process of the run has ended.
_LOST_PROCESS = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe', 'Connection refused',
                 'NCCL error', 'NCCL communicator was aborted', 'Timed out waiting', 'remote process has terminated',
                 'Watchdog caught')
# Errors of a file that is not written completely -> the reason. Some libraries only pass on the text of the error.
_NO_SPACE = {errno.ENOSPC: 'the disk is full', errno.EDQUOT: 'the disk quota of this user is full',
             errno.EFBIG: 'the disk is full for a file of this size (a limit of the file system, or of ulimit -f)'}
_NO_SPACE_TEXTS = {'No space left on device': errno.ENOSPC, 'Disk quota exceeded': errno.EDQUOT}
_SIGPIPE_CODE = 141  # 128 + the number of SIGPIPE, which Windows does not have
TRACEBACK = 'MAE_BACKBONE_TRACEBACK'  # environment variable: 1 prints tracebacks of user errors too


def run_cli(command: Callable[[], None], *, resume_hint: str = 'run the same command again') -> int:
    """Runs a command and returns its exit code. Errors are printed to stderr.

    The code is 0, 2 after a mistake of the user (one message, no traceback), 1 after a defect of the program, and 128 +
    the number of the signal after SIGINT (Ctrl-C), SIGTERM and SIGUSR1. It is 141, without a message, if the reader of
    stdout has ended, as after `| head -1`: shells have this code for SIGPIPE.

    Args:
        command: the function to run.
        resume_hint: advice after an interruption.
    """
    prepare_streams()
    with _signals_end_the_run(resume_hint), _lost_interrupts_end_the_run(resume_hint):
        try:
            _check_folder()
            command()
            sys.stdout.flush()
        except SystemExit as end:
            return _exit_code(end)
        except KeyboardInterrupt:
            return _report_interrupt(resume_hint)
        except Exception as error:
            # A compiled module that is interrupted while it is imported raises ImportError, or another error. MMEngine
            # replaces any exception in the formatter of a config by a SyntaxError.
            if _Interrupt.received == signal.SIGINT:
                return _report_interrupt(resume_hint)
            if isinstance(error, BrokenPipeError) and reader_has_ended():
                return _SIGPIPE_CODE
            return 128 + _Interrupt.received if _Interrupt.received else _report(error)
    return 0


def _check_folder() -> None:
    """Raises FileNotFoundError if the current folder is deleted, where imports of PyTorch end the process."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise FileNotFoundError('the current folder was deleted: change to another one (cd)') from error


class _Interrupt:
    """Handlers of signals. They raise, and set `received`, because another exception may replace the one they raise."""

    received = 0  # number of the last signal; 0 without one
    resume_hint = ''  # advice after an interruption

    @classmethod
    def handle(cls, number: int, frame: FrameType | None) -> None:
        """Raises KeyboardInterrupt."""
        cls.received = number
        signal.default_int_handler(number, frame)

    @classmethod
    def terminate(cls, number: int, _: FrameType | None) -> None:
        """Raises SystemExit."""
        cls.received = number
        print(f'\n{signal.Signals(number).name}: terminated, files that were written are kept; {cls.resume_hint}',
              file=sys.stderr)
        sys.exit(128 + number)


def _report_interrupt(resume_hint: str) -> int:
    print(f'\ninterrupted: files that were written are kept; {resume_hint}', file=sys.stderr)
    return 128 + signal.SIGINT


@contextmanager
def _lost_interrupts_end_the_run(resume_hint: str) -> Iterator[None]:
    """Exits on a signal whose exception Python would print and drop, as in a callback of its import system."""
    previous = sys.unraisablehook

    def hook(unraisable: 'sys.UnraisableHookArgs') -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            code = _report_interrupt(resume_hint)
        elif issubclass(unraisable.exc_type, SystemExit) and _Interrupt.received:
            code = 128 + _Interrupt.received
        else:
            previous(unraisable)
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


def exit_process(code: int) -> None:
    """Ends this process with an exit code. Returns if the code is 0."""
    dist = _distributed()
    if dist is None:
        if code:
            sys.exit(code)
    elif code in (1, 2, 130):
        # Threads of a distributed run may wait for processes that have ended.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    else:
        dist.destroy_process_group()
        if code:
            sys.exit(code)


def log_rank0(line: str) -> None:
    """Prints a line, once in a distributed run."""
    if is_rank0():
        print(printable_lines(line), flush=True)


def is_rank0() -> bool:
    """True in the process that prints and writes (rank 0). Works also before the process group exists."""
    return os.environ.get('RANK', '0') == '0'


def _report(error: Exception) -> int:
    message = explain(error)
    if message is None or os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    if message is None:
        print('This is a defect of the program, not of your input: please report it with the lines above.',
              file=sys.stderr)
        return 1
    # `everywhere` marks errors that all processes of a distributed run raise.
    if is_rank0() or not getattr(error, 'everywhere', False):
        print(f'error: {printable_lines(message)}', file=sys.stderr)
    return 2


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


@contextmanager
def _signals_end_the_run(resume_hint: str) -> Iterator[None]:
    """SIGTERM and SIGUSR1 end the run like Ctrl-C, so that the processes which it started end too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Interrupt.received, _Interrupt.resume_hint = 0, resume_hint
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: _Interrupt.handle, signal.SIGTERM: _Interrupt.terminate}
    if hasattr(signal, 'SIGUSR1'):
        handlers[signal.SIGUSR1] = _Interrupt.terminate
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    end_with_parent()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _distributed() -> ModuleType | None:
    """torch.distributed if this process is in a process group, None otherwise. Does not import torch."""
    dist = sys.modules.get('torch.distributed')
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def explain(error: BaseException) -> str | None:
    """Returns one readable message for a mistake that a user can correct, or None for a defect of the program."""
    text = str(error)
    for rule in (_lost_process, _no_space, _lost_worker, _out_of_memory, _config_error, _library_value, _file_error):
        if (message := rule(error, text)) is not None:
            return message
    message = explain(error.__cause__) if isinstance(error.__cause__, Exception) else None
    return message if message is not None else explain_raw(error)


def _lost_process(error: BaseException, text: str) -> str | None:
    if isinstance(error, RuntimeError) and any(sign in text for sign in _LOST_PROCESS):
        return (f'process {os.environ.get("RANK", "?")}: another process of this run has ended or does not answer, see '
                f'its last lines. Checkpoints are kept; the same command with --resume continues ({first_line(text)})')
    return None


def _no_space(error: BaseException, text: str) -> str | None:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        from mae_backbone.checkpoints.run_files import DiskFullError  # imports torch
        if isinstance(error, DiskFullError):
            return error.strerror
    number = next((number for sign, number in _NO_SPACE_TEXTS.items() if sign in text), getattr(error, 'errno', None))
    if number not in _NO_SPACE:
        return None
    path = getattr(error, 'filename2', None) or getattr(error, 'filename', None)  # the second one of a copy
    return (f'{_NO_SPACE[number]}{f" ({path})" if path else ""}: free some space or choose another folder, then run '
            'the same command again, training with --resume')


def _file_error(error: BaseException, text: str) -> str | None:
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror or error}: {_way_out(error)}'
    if isinstance(error, (ValueError, OSError)):
        return _without_worker_traceback(text, error)
    return None


def _way_out(error: OSError) -> str:
    from mae_backbone.data.index import cache_folder  # imports NumPy
    path, cache = Path(str(error.filename)), cache_folder()
    if cache in (path, *path.parents):
        return f'set the environment variable MAE_BACKBONE_CACHE to another folder than {cache}'
    return 'choose another folder' if error.errno == errno.EROFS else 'check the path and its permissions'


def _lost_worker(error: BaseException, text: str) -> str | None:
    """Explains torch's errors for a DataLoader worker that has ended, which are raised in any function of the model."""
    match = re.search(r'DataLoader worker \(pid.*\) (?:exited unexpectedly|is killed by signal: ([^.]+))', text)
    if not isinstance(error, RuntimeError) or match is None:
        return None
    kind = match[1] or ''
    if kind == 'Terminated':
        return ('a process that loads data was ended from outside (SIGTERM), for example by a scheduler: run the same '
                'command again, training with --resume')
    if kind == 'Bus error':
        return ('a process that loads data has no more shared memory: give the container more (docker run '
                '--shm-size=8g), or set num_workers=0 in the dataloaders')
    return ('a process that loads data was killed, most often because memory ran out: lower num_workers or batch_size '
            f'of the dataloaders{f" (signal: {kind})" * bool(kind)}')


def _out_of_memory(error: BaseException, text: str) -> str | None:
    torch = sys.modules.get('torch')
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return f'the GPU is out of memory: lower train_dataloader.batch_size or use --amp ({text.splitlines()[0]})'
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in text:
        return ('the machine has too little memory: lower the batch size or the size of the images '
                f'({text[text.index("DefaultCPUAllocator"):].splitlines()[0]})')
    return None


def _config_error(error: BaseException, text: str) -> str | None:
    """Explains MMEngine's errors for a config with a name that does not exist."""
    if isinstance(error, KeyError) and 'registry' in text:
        return f'the config names a type that does not exist: {text.strip(chr(34))}'
    if isinstance(error, TypeError) and 'argument' in text and '__init__' in text:
        return f'the config has a key that does not exist, or misses one: {text}'
    if isinstance(error, TypeError) and 'inherit' in text:  # a dict where a base config has another value
        return f'the config, or --cfg-options, replaces another value by a dict: {text}'
    if isinstance(error, ImportError) and 'pip install' in text:  # such as the W&B backend
        return f'the config asks for a package that is not installed: {text}'
    if isinstance(error, SyntaxError):
        return f'the config is not valid Python: {error.filename}, line {error.lineno}: {error.msg}'
    return None


def _library_value(error: BaseException, text: str) -> str | None:
    """Explains a ValueError of a library. Its text contains a value, but not the setting that the value is from."""
    if type(error) is not ValueError or _raised_by_us(error) or 'mae_backbone' in text:
        return None
    return explain_raw(error)


def _raised_by_us(error: BaseException) -> bool:
    """True if the error is raised in a file of this package. Messages of this package are written for users."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is None or traceback.tb_frame.f_globals.get('__name__', '').startswith('mae_backbone')


def _without_worker_traceback(text: str, error: BaseException) -> str:
    """The message of an error without the traceback that a DataLoader worker puts before it."""
    return text.partition(f'{type(error).__name__}: ')[2] or text if 'in DataLoader worker' in text else text


def first_line(text: str) -> str:
    """The first line of a message, without the C++ source position that gloo and NCCL put before it."""
    return re.sub(r'^\[[^]]*\]\s*', '', text.strip()).splitlines()[0][:160]
