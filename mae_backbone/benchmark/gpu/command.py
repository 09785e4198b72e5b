"""Command `benchmark gpu`: runs all checks within a time limit, and writes the results after each check."""
import argparse
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mae_backbone.benchmark.gpu.check import Check, End, Row, Settings
from mae_backbone.benchmark.gpu.checks import CHECKS
from mae_backbone.benchmark.gpu.isolation import Isolated
from mae_backbone.benchmark.gpu.report import line, markdown
from mae_backbone.benchmark.report import write_json
from mae_backbone.utils.atomic_write import write_text

Perform = Callable[[Check, Settings, float], Iterator[Row | End]]

_MIN_SECONDS = 10   # left for a check, otherwise it is not started
_RESERVE = 5        # seconds of the limit to write the result and to end


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the checks. Returns the content of the JSON file, and a Markdown report.

    Raises:
        ValueError: there is no GPU; or a name of --only is unknown.
    """
    settings = Settings(device_of(args.device, tiny=args.tiny), args.tiny, args.shards)
    checks, isolated = chosen(args.only, tiny=args.tiny), Isolated()
    result: dict[str, Any] = {'command': command_line(args), 'minutes': args.minutes, 'checks': {}}

    def save() -> None:
        if args.json:
            write_json(result, args.json)
            write_text(Path(args.json).with_suffix('.md'), markdown(result) + '\n')
    try:
        run_checks(checks, settings, result['checks'], save, isolated.perform, seconds=60 * args.minutes - _RESERVE)
    finally:
        isolated.close()
    return result, markdown(result)


def run_checks(checks: list[Check], settings: Settings, results: dict[str, dict], save: Callable[[], None],
               perform: Perform, *, seconds: float) -> None:
    """Fills `results` (name of the check -> figures), and calls `save` after each row. Prints a line for each check."""
    end_of_all = time.monotonic() + seconds
    for check in checks:
        begin = time.monotonic()
        result = results[check.name] = {'rows': {}}
        left = min(check.seconds, end_of_all - begin)
        messages = perform(check, settings, left) if left >= min(_MIN_SECONDS, check.seconds) else iter(
            [End('skipped', 'no time left: give more --minutes, or choose with --only')])
        for message in messages:
            if isinstance(message, Row):
                result['rows'][message.name] = message.figures
            else:
                result |= conclusion(message, result['rows'])
            results[check.name] = result
            save()
        result['seconds'] = round(time.monotonic() - begin, 1)
        save()
        print(line(check.name, result), flush=True)


def conclusion(end: End, rows: dict[str, dict]) -> dict[str, str]:
    """Result of a check: {} if it passed, otherwise `error` or `skipped` with the reason."""
    if end.outcome != 'ok':
        return {end.outcome: end.reason}
    wrong = [name for name, figures in rows.items() if figures.get('ok') is False]
    failed = [name for name, figures in rows.items() if 'error' in figures]
    groups = {'beyond the limit': wrong, 'failed': failed}
    texts = [f'{text}: {"; ".join(names)}' for text, names in groups.items() if names]
    return {'error': '; '.join(texts)} if texts else {}


def device_of(name: str, *, tiny: bool) -> str:
    """The device to check: --tiny runs on the CPU if there is no GPU.

    Raises:
        ValueError: there is no GPU, without --tiny.
    """
    if name == 'cpu' or torch.cuda.is_available():
        return name
    if tiny:
        return 'cpu'
    raise ValueError('PyTorch finds no CUDA GPU. --tiny, or --device cpu, runs the checks on the CPU')


def chosen(names: list[str] | None, *, tiny: bool) -> list[Check]:
    """The checks whose names begin with one of `names`; all of them for None.

    Raises:
        ValueError: no check begins with a name.
    """
    checks = [check for check in CHECKS if check.tiny or not tiny]
    for name in names or ():
        if not any(check.name.startswith(name) for check in checks):
            raise ValueError(f'--only {name}: no check begins with it, choose from '
                             + ', '.join(repr(check.name) for check in checks))
    return [check for check in checks if names is None or check.name.startswith(tuple(names))]


def command_line(args: argparse.Namespace) -> str:
    """Command that reproduces the result."""
    words = ['mae-backbone benchmark gpu', f'--minutes {args.minutes:g}', '--tiny' * args.tiny,
             '--device cpu' * (args.device == 'cpu'), f'--shards {shlex.quote(args.shards)}' if args.shards else '',
             f'--only {shlex.join(args.only)}' if args.only else '']
    return ' '.join(word for word in words if word)
