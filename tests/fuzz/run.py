"""Mutates small files of every kind that is read, and gives them to the readers and the commands.

    python tests/fuzz/run.py --images 5000 --checkpoints 500 --annotations 500 --json fuzz.json

Images are counted together, checkpoints and annotations per kind. Each file is read in a forked process: a crash, a
hang (20 s of processor time), an exit code other than 0 and 2, or more than 2 GB of memory is a fault. The exit code is
1 if there is any; the files are kept then, with what was printed. File 0 of each kind is not mutated and must be read.
The same command continues a run that was stopped, from its JSON file. A seed and the number of a file give the same
file again: `--only KIND --first NUMBER`. Needs Linux.
"""
import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

TESTS = Path(__file__).resolve().parents[1]
if TYPE_CHECKING:
    from fuzz.sandbox import Outcome, Step

BATCH = 25  # files per process
_FAULTS = {'crash': 'crashes', 'hang': 'hangs', 'exit code': 'other exit codes', 'memory': 'above 2 GB'}
_IMPORTED = (  # by the commands when they run: here once, before the forks
    'mae_backbone', 'mae_backbone.planning.report', 'mae_backbone.prediction.results', 'mae_backbone.data.pack',
    'mae_backbone.data.mean_std', 'mae_backbone.hooks.reconstruction', 'matplotlib.pyplot', 'mmdet.datasets',
    'mmdet.evaluation', 'mmdet.models', 'mmseg.datasets', 'mmseg.models')
_COLUMNS = ('kind', 'files', 'read', 'refused', 'crashes', 'hangs', 'other exit codes', 'above 2 GB',
            'peak memory (MB)', 'seconds')


def main(arguments: list[str] | None = None) -> int:
    """Runs all kinds, a batch of each in turn, prints a table, and returns 1 if there are faults."""
    args = _parser().parse_args(arguments)
    sys.path[:0] = [path for path in (str(TESTS), str(TESTS.parent)) if path not in sys.path]
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ.setdefault('MAE_BACKBONE_CACHE', tempfile.mkdtemp(prefix='fuzz-cache-'))
    state = json.loads(Path(args.json).read_text()) if args.json and Path(args.json).exists() else dict(
        seed=args.seed, first=args.first, rows={}, faults=[])
    if (state['seed'], state['first']) != (args.seed, args.first):
        raise SystemExit(f'{args.json} is of another --seed or --first: choose another file')
    rows = state['rows']
    with tempfile.TemporaryDirectory(prefix='fuzz-') as name:
        todo = list(kinds(args, Path(name)))
        while todo:
            kind, count, files = todo.pop(0)
            row = rows.setdefault(kind, dict.fromkeys(_COLUMNS[1:], 0))
            if row['files'] >= count:
                continue
            todo.append((kind, count, files))
            first = args.first + row['files']
            batch = range(first, min(first + BATCH, args.first + count))
            state['faults'] += run_batch(kind, files, batch, row, args, Path(name, 'work'))
            if args.json:
                Path(args.json).write_text(json.dumps(state, indent=1))
    print(table(rows))
    for fault in state['faults']:
        print(f'{fault["fault"]}: {fault["kind"]}, {fault["input"]}, {fault["target"]}: {fault["printed"][-300:]}')
    return int(bool(state['faults']))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=5000, help='images of all kinds together (default: %(default)s)')
    parser.add_argument('--checkpoints', type=int, default=500, help='checkpoints of each kind (default: %(default)s)')
    parser.add_argument('--annotations', type=int, default=500, help='annotations of each kind (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='random seed (default: %(default)s)')
    parser.add_argument('--only', nargs='+', metavar='KIND', help='only kinds with these words in their names')
    parser.add_argument('--first', type=int, default=0, metavar='NUMBER', help='number of the first file of each kind')
    parser.add_argument('--keep', default='fuzz_faults', metavar='DIR', help='folder for files with faults')
    parser.add_argument('--json', metavar='FILE',
                        help='file for the figures and the faults, from which a run is continued')
    return parser


def kinds(args: argparse.Namespace, folder: Path) -> Iterator[tuple]:
    """(name, number of files, kind) of every kind."""
    from fuzz import annotations, checkpoints, images

    def wanted(name: str) -> bool:
        return not args.only or any(word in name for word in args.only)

    if args.images + args.checkpoints + args.annotations > BATCH:
        for name in _IMPORTED:
            import_module(name)
    names = [kind for kind in images.SEEDS_OF if wanted(f'image: {kind}')]
    for number, kind in enumerate(names):
        count = args.images // len(names) + (number < args.images % len(names))
        if count:
            yield f'image: {kind}', count, images.ImageKind(kind, folder / 'images' / kind)
    names = [kind for kind in checkpoints.KINDS if wanted(f'checkpoint: {kind}')]
    if args.checkpoints and names:
        tasks = {name.split()[0] for name in names} & {*checkpoints.RUNS} | {'pretraining'}
        if {*names} & {*checkpoints.SUFFIXES}:
            tasks.add('classification')
        runs = checkpoints.Runs(folder / 'runs', tuple(sorted(tasks)))
        for kind in names:
            yield f'checkpoint: {kind}', args.checkpoints, checkpoints.CheckpointKind(
                kind, folder / 'checkpoints' / kind, runs)
    for kind in annotations.KINDS:
        if args.annotations and wanted(f'annotation: {kind}'):
            yield f'annotation: {kind}', args.annotations, annotations.AnnotationKind(
                kind, folder / 'annotations' / kind)


def run_batch(name: str, kind, numbers: range, row: dict, args: argparse.Namespace,  # type: ignore[no-untyped-def]
              work: Path) -> list[dict]:
    """Runs some files of a kind, adds them to its row of the table, and returns the faults."""
    from fuzz.sandbox import run_steps
    started, codes, faults = time.monotonic(), Counter(), []
    work.mkdir()
    paths = {number: kind.write(number, random.Random(f'{args.seed} {name} {number}')) for number in numbers}
    steps: list[Step] = [step for number, path in paths.items() for step in kind.steps(path, number)]
    of_folder = []
    if hasattr(kind, 'folder_steps'):
        classifier = _classifier(work) if kind.is_color else None
        of_folder = kind.folder_steps(list(paths.values()), work / 'folder', classifier)
    outcomes: list[Outcome] = run_steps(steps + of_folder, work)
    for number, outcome in enumerate(outcomes):
        row['peak memory (MB)'] = max(row['peak memory (MB)'], round(outcome.peak / 2**20))
        if number < len(steps):
            codes[outcome.input] = max(codes[outcome.input], abs(outcome.code))
        if outcome.input.startswith('000000.') and outcome.code:  # not mutated
            raise RuntimeError(f'{name}: the file without mutations is refused by {outcome.target}: {outcome.printed}')
        if outcome.fault:
            row[_FAULTS[outcome.fault]] += 1
            faults.append(dict(kind=name, fault=outcome.fault, **outcome._asdict()))
            _keep(Path(args.keep), name, outcome, [path for path in paths.values() if number >= len(steps)
                                                   or path.name == outcome.input])
    row['files'] += len(numbers)
    row['read'] += sum(code == 0 for code in codes.values())
    row['refused'] += sum(code == 2 for code in codes.values())
    row['seconds'] = round(row['seconds'] + time.monotonic() - started, 1)
    shutil.rmtree(work)
    for path in paths.values():
        path.unlink(missing_ok=True)
    return faults


_CLASSIFIER: dict[str, tuple[Path, Path]] = {}


def _classifier(work: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a tiny classifier, which predicts the images."""
    from fuzz.checkpoints import Runs
    if not _CLASSIFIER:
        runs = Runs(work.parent / 'classifier', ('classification',))
        _CLASSIFIER['run'] = runs.config_path('classification'), runs.checkpoints['classification']
    return _CLASSIFIER['run']


def _keep(folder: Path, kind: str, outcome: 'Outcome', paths: list[Path]) -> None:
    """Keeps the files of a fault, and what was printed."""
    place = folder / f'{kind} {outcome.target} {outcome.input}'.replace(': ', ' ').replace('/', ' ').replace(' ', '_')
    place.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, place)
    (place / 'printed.txt').write_text(f'{outcome.fault} (code {outcome.code}, {outcome.seconds:.1f} s, '
                                       f'{outcome.peak / 2**20:.0f} MB)\n{outcome.printed}')


def table(rows: dict[str, dict]) -> str:
    """The figures as Markdown."""
    lines = [_COLUMNS, ['---'] * len(_COLUMNS), *((kind, *row.values()) for kind, row in rows.items())]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


if __name__ == '__main__':
    sys.exit(main())
