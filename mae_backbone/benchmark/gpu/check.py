"""A check of a device: description, arguments, and reported numbers."""
import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

Rows = Iterator[tuple[str, dict[str, Any]]]  # name of a row -> its figures; `ok` False marks a wrong number


class Settings(NamedTuple):
    """Settings of all checks."""

    device: str               # 'cuda' or 'cpu'
    tiny: bool = False        # small models and images, to test the checks and not the device
    shards: str | None = None  # folder of packed images, see `mae-backbone pack`


class Check(NamedTuple):
    """A check is a generator of rows, so that the rows before a failure are kept.

    Its function takes the `Settings` and the options. It raises `SkippedCheckError` if it does not apply.
    """

    name: str
    seconds: int              # after which it is stopped
    function: str             # 'module:function'
    options: dict = {}        # noqa: RUF012  # never changed
    tiny: bool = True         # runs with --tiny too; False if another check calls the same code


class SkippedCheckError(Exception):
    """A check does not apply here. The message states the reason."""


class Row(NamedTuple):
    """Figures of a row of a check."""

    name: str
    figures: dict[str, Any]


class End(NamedTuple):
    """End of a check."""

    outcome: str              # 'ok', 'skipped' or 'error'
    reason: str = ''


def perform(check: Check, settings: Settings) -> Iterator[Row | End]:
    """Runs a check. Yields its rows and then one `End`, also after an error."""
    end = End('ok')
    try:
        module, _, function = check.function.partition(':')
        for name, figures in getattr(import_module(module), function)(settings, **check.options):
            yield Row(name, figures)
    except SkippedCheckError as skipped:
        end = End('skipped', str(skipped))
    except ModuleNotFoundError as error:
        end = End('skipped', not_installed(error))
    except Exception as error:  # of any library: the next check may still work
        end = End('error', short(error))
    free(settings)
    yield end


def not_installed(error: ModuleNotFoundError) -> str:
    """Packages to install."""
    return f'{error.name} is not installed: install mae_backbone with its dependencies'


def short(error: BaseException) -> str:
    """Type and first lines of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {" ".join(lines[:3])}'[:300]


def free(settings: Settings) -> None:
    """Frees the memory and the graphs of a check. Imports nothing that the check has not imported."""
    if (dynamo := sys.modules.get('torch._dynamo')) is not None:
        dynamo.reset()
    gc.collect()
    if settings.device == 'cuda' and (torch := sys.modules.get('torch')) is not None:
        torch.cuda.empty_cache()
