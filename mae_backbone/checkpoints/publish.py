"""Publishes a checkpoint: writes weights and metadata to a safetensors file, and a model card next to it."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.config_text import parse_config
from mae_backbone.checkpoints.conversion.licenses import License, find_license
from mae_backbone.checkpoints.conversion.model_card import ModelCard, license_lines, table
from mae_backbone.checkpoints.published import KEY, write_published
from mae_backbone.utils.atomic_write import write_text

_USE = {'pretraining': "model.reconstruct('image.png')", 'features': "model.features('image.png', pool='mean')"}
_COMMANDS = {'pretraining': 'visualize', 'features': 'info'}


def publish(source: str | Path, target: str | Path) -> Path:
    """Writes a checkpoint with `write_published`, and a model card next to it. Returns the path of the card.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: as in `write_published`.
        FileExistsError: the model card would replace a file that is no model card of this package.
    """
    target = Path(target)
    path = target.with_suffix('.md')
    if path.exists() and 'library_name: mae_backbone' not in path.read_text(encoding='utf-8', errors='replace'):
        raise FileExistsError(f'the model card {path} would replace another file: choose another name for '
                              f'{target.name}, or move the file')
    meta, num_parameters = write_published(source, target)
    license = find_license(Path(source), {}, parse_config(str(meta.get('cfg') or '')))
    write_text(path, card_of(meta, name=target.name, num_parameters=num_parameters, license=license).to_markdown())
    return path


def card_of(meta: Mapping[str, Any], *, name: str, num_parameters: int, license: License) -> ModelCard:
    """Returns the model card of a checkpoint.

    Args:
        meta: `meta` of the checkpoint, as `write_published` returns it.
        name: name of the file.
        num_parameters: number of parameters of the model.
        license: license of the weights.
    """
    described: dict[str, Any] = meta[KEY] if isinstance(meta.get(KEY), dict) else {}
    task = str(described.get('task') or 'features')
    model = parse_config(str(meta.get('cfg') or '')).get('model') or {}
    python = '\n'.join(['import mae_backbone', f"model = mae_backbone.load('{name}')",
                        _USE.get(task, "result = model.predict('image.png')")])
    command = f'mae-backbone {_COMMANDS.get(task, "predict")} {name}' + ' IMAGE' * (task != 'features')
    classes = table(('id', 'name'), [(one.get('id', ''), one.get('name')) for one in described.get('classes') or []])
    return ModelCard(
        name=name, task=task, library='mae_backbone', license=license.name,
        summary=f'A model for {task}: `{model.get("type")}` with {num_parameters:,} parameters, trained with '
                'mae_backbone.',
        usage=[('python', python), ('bash', command)],
        sections=[('Classes', classes), ('Results', _results(described)),
                  ('Training', [*table(('', ''), _facts(meta, described)), '',
                                'The whole config is in the metadata of the file: `mae-backbone info --show-config`.']),
                  ('License', license_lines(*license))])


def _results(described: Mapping[str, Any]) -> list[str]:
    results = described.get('results') or {}
    rows = table(('metric', 'value'), [(key, f'{value:.4g}') for key, value in results.items()])
    place = f' after {described["results_iter"]} iterations' if described.get('results_iter') else ''
    return [f'From the last validation{place}, and the training loss at the end:', '', *rows] if rows else []


def _facts(meta: Mapping[str, Any], described: Mapping[str, Any]) -> list[tuple[str, object]]:
    facts = {'epoch': meta.get('epoch'), 'iteration': meta.get('iter'), 'saved': meta.get('time'),
             'command': described.get('command'), 'commit': described.get('commit'),
             'pixels': ', '.join(f'{key} {value}' for key, value in (described.get('pixels') or {}).items()),
             'versions': ', '.join(f'{key} {value}' for key, value in (described.get('versions') or {}).items())}
    return [(key, value) for key, value in facts.items() if value not in (None, '')]
