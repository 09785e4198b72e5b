"""List public weights that --pretrained accepts by name, and the paths of their files on this machine.

examples:
  mae-backbone models
  mae-backbone models mae_vit_base
"""
import argparse
import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mae_backbone.checkpoints.model_index import PublicWeights


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('name', nargs='?', metavar='NAME', help='show everything about these weights')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.checkpoints.model_index import FOLDERS, find_file, public_weights, weights_folders

    entries = public_weights()
    if args.name is None:
        for line in _table(list(entries.values())):
            print(line)
        print(f'\nsearched: {", ".join(map(str, weights_folders()))} ({FOLDERS} adds folders). Nothing is downloaded.\n'
              'mae-backbone models NAME shows the source and the license.')
        return
    if args.name not in entries:
        similar = difflib.get_close_matches(args.name, entries, n=3)
        raise ValueError(f'{args.name} is not in the list' + (f': did you mean {" or ".join(similar)}?' if similar else
                                                              ': mae-backbone models shows all names'))
    entry = entries[args.name]
    for key, value in entry._asdict().items():
        if value is not None:
            print(f'{key:<12} {value}')
    print(f'{"here":<12} {find_file(entry) or "no"}')
    if entry.license is None:
        print('license      not stated for the weights: see the page')


def _table(entries: 'list[PublicWeights]') -> list[str]:
    from mae_backbone.checkpoints.model_index import find_file
    rows = [('name', 'architecture', 'pretraining', 'license', 'here')]
    rows += [(entry.name, f'{entry.arch}/{entry.patch_size}', entry.pretraining, entry.license or 'see page',
              'yes' if find_file(entry) else '-') for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
