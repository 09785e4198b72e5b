"""Model cards: the README.md of a folder, as the Hugging Face hub reads it."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.conversion.files import read_json
from mae_backbone.checkpoints.conversion.licenses import MAE_LICENSE, MAE_LICENSE_NOTE
from mae_backbone.checkpoints.conversion.model import StoredModel

_PROJECT = 'mae_backbone'


def model_card(model: StoredModel, name: str, usage: str, *, library: str, versions: Mapping[str, str] | None = None,
               verified: Mapping[str, Any] | None = None) -> str:
    """The text of a model card.

    Args:
        model: that the folder holds.
        name: title of the card.
        usage: code that loads the folder.
        library: of the hub, that loads it: 'timm', 'transformers' or 'mae_backbone'.
        versions: package -> version.
        verified: as the metadata has it; None if nothing was run.
    """
    license = model.origin.license
    task = 'image-classification' if model.num_classes else 'image-feature-extraction'
    front = [f'license: {license}' if license else 'license: unknown', f'library_name: {library}',
             f'pipeline_tag: {task}', 'tags:', *(f'- {tag}' for tag in ('vit', 'mae', _PROJECT))]
    lines = ['---', *front, '---', '', f'# {_line(name)}', '', _summary(model), '', '## Use', '', '```python', usage,
             '```', '', '## Architecture', '', *_table(('', ''), _architecture(model)), '']
    if model.training:
        lines += ['## Training', '', *_table(('', ''), model.training.items()), '']
    if model.results:
        head = ('task', 'data', 'metric', 'labels', 'encoder', 'value', 'seeds')
        lines += ['## Results of `mae-backbone transfer`', '', *_table(head, model.results), '',
                  'Percent: mean and standard deviation over the seeds.', '']
    lines += ['## Origin and license', '', *_table(('', ''), _origin(model)), '']
    if license == MAE_LICENSE:
        lines += [f'{MAE_LICENSE_NOTE[0].upper()}{MAE_LICENSE_NOTE[1:]}.', '']
    if verified:
        differences = ', '.join(f'{output} {value:.2g}' for output, value in verified['largest_differences'].items())
        lines += ['## Verification', '', f'Run by {verified["library"]} on {verified["images"]} random images. Largest '
                  f'difference to {_PROJECT}: {differences}.', '']
    if versions:
        lines += ['## Versions', '', *_table(('package', 'version'), versions.items()), '']
    return '\n'.join(lines).rstrip() + '\n'


def transfer_results(checkpoint: Path) -> list[tuple[str, ...]]:
    """Rows of the table that `mae-backbone transfer` made for a checkpoint, and for its references.

    Looked at are `results.json` in the folder of the checkpoint, and in folders `transfer*` in it and next to it.

    Returns:
        (task, data, metric, labels, encoder, value, seeds) of each row; empty if there are no results.
    """
    folder = checkpoint.absolute().parent
    files = [folder / 'results.json', *sorted(folder.glob('transfer*/results.json')),
             *sorted(folder.parent.glob('transfer*/results.json'))]
    rows = []
    for file in files:
        record = read_json(file)
        models = _models(record.get('encoders'), checkpoint)
        table = record.get('table')
        if models and isinstance(table, list):
            rows += [_row(row) for row in table if isinstance(row, dict) and row.get('model') in models]
    return rows


def _models(encoders: object, checkpoint: Path) -> set[str]:
    """Names of the encoders of an experiment that are this checkpoint or a reference; empty without the checkpoint."""
    names, found = set(), False
    for encoder in encoders if isinstance(encoders, list) else []:
        if not isinstance(encoder, dict) or not isinstance(encoder.get('name'), str):
            continue
        path = Path(encoder['checkpoint']) if isinstance(encoder.get('checkpoint'), str) else None
        same = path is not None and (path.parent.name, path.name) == (checkpoint.absolute().parent.name,
                                                                     checkpoint.name)
        found |= same
        if same or encoder.get('reference'):
            names.add(encoder['name'])
    return names if found else set()


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = row.get('summary')
    summary: dict[str, Any] = found if isinstance(found, dict) else {}
    mean, std = (summary.get(key) for key in ('mean', 'std'))
    value = f'{mean:.1f}' if isinstance(mean, (int, float)) else ''
    value += f' ± {std:.1f}' if isinstance(std, (int, float)) else ''
    labels = row.get('labels')
    return (str(row.get('task')), str(row.get('data')), str(row.get('metric')),
            f'{labels * 100:.3g} %' if isinstance(labels, (int, float)) else '', str(row.get('model')), value,
            str(summary.get('seeds', '')))


def _summary(model: StoredModel) -> str:
    architecture = model.architecture
    size = f'ViT-{architecture.name.capitalize()}' if architecture.name else 'a Vision Transformer'
    what = ('a masked autoencoder (He et al., CVPR 2022) with its decoder' if architecture.decoder else
            f'a classifier of {model.num_classes} classes' if model.num_classes else 'an encoder')
    return (f'{size[0].upper()}{size[1:]} with patches of {architecture.patch_size} pixels: {what}, written by '
            f'{_PROJECT}.')


def _architecture(model: StoredModel) -> list[tuple[str, str]]:
    architecture, (height, width) = model.architecture, model.architecture.image_size
    rows = [('encoder', f'width {architecture.width}, depth {architecture.depth}, {architecture.heads} heads'),
            ('images', f'{height}x{width} pixels, {architecture.in_channels} channels'),
            ('patches', f'{architecture.patch_size}x{architecture.patch_size} pixels')]
    if architecture.decoder:
        size = architecture.decoder
        target = {True: 'pixels, normalized by patch', False: 'pixels', 'image': 'pixels, normalized by image'}
        rows += [('decoder', f'width {size.width}, depth {size.depth}, {size.heads} heads'),
                 ('target', target[architecture.norm_pix])]
    if model.num_classes:
        names = [*architecture.classes[:50], *(['...'] if len(architecture.classes) > 50 else [])]
        rows.append(('classes', ', '.join(names) or str(model.num_classes)))
    if architecture.mean:
        rows += [('mean of the pixels', _numbers(architecture.mean)), ('deviation', _numbers(architecture.std))]
    return rows


def _origin(model: StoredModel) -> list[tuple[str, str]]:
    origin = model.origin
    rows = [('source', origin.file), ('layout', origin.layout)] + [('sha256', origin.sha256)] * bool(origin.sha256)
    if origin.earlier:
        rows.append(('converted before from', f'{origin.earlier.get("file")}, sha256 {origin.earlier.get("sha256")}'))
    stated = f'{origin.license} ({origin.license_source})' if origin.license else 'not stated by the source'
    return [*rows, ('license', stated), *(('note', note) for note in model.notes)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f'| {" | ".join(head)} |', f'|{" --- |" * len(head)}']
    return lines + [f'| {" | ".join(map(_line, row))} |' for row in rows]


def _line(text: object) -> str:
    """Text of one line that a table of Markdown can hold: a card may come from the metadata of an untrusted file."""
    return ' '.join(str(text).split()).replace('|', '\\|').replace('<', '&lt;')


def _numbers(values: Sequence[float]) -> str:
    return ', '.join(f'{value:.6g}' for value in values)
