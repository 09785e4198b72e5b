"""Model card of a published checkpoint."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.config_text import parse_config
from mae_backbone.checkpoints.published import KEY, write_published
from mae_backbone.utils.atomic_write import write_text

_TAGS = {'detection': 'object-detection', 'segmentation': 'image-segmentation',
         'classification': 'image-classification'}
_USE = {'pretraining': "model.reconstruct('image.png')", 'features': "model.features('image.png', pool='mean')"}
_COMMANDS = {'pretraining': 'visualize', 'features': 'info'}


def publish(source: str | Path, target: str | Path) -> Path:
    """Writes a checkpoint with `write_published`, and a model card next to it; returns the path of the card.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: as `write_published`.
    """
    target = Path(target)
    meta, num_parameters = write_published(source, target)
    card = target.with_suffix('.md')
    write_text(card, model_card(meta, name=target.name, num_parameters=num_parameters))
    return card


def model_card(meta: Mapping[str, Any], *, name: str, num_parameters: int) -> str:
    """The card in Markdown, with the header that Hugging Face's hub reads.

    Args:
        meta: of the checkpoint, as `write_published` returns it.
        name: of the file.
        num_parameters: of the model.
    """
    described: dict[str, Any] = meta[KEY] if isinstance(meta.get(KEY), dict) else {}
    task = str(described.get('task') or 'features')
    model = parse_config(str(meta.get('cfg') or '')).get('model') or {}
    lines = ['---', 'library_name: mae_backbone',
             f'pipeline_tag: {_TAGS.get(task, "image-feature-extraction")}', 'tags: [mae, vit]', '---', '',
             f'# {name}', '',
             f'A model for {task}: `{model.get("type")}` with {num_parameters:,} parameters, trained with '
             'mae_backbone.',
             '', '## Use', '', '```python', 'import mae_backbone', f"model = mae_backbone.load('{name}')",
             _USE.get(task, "result = model.predict('image.png')"), '```', '', '```bash',
             f'mae-backbone {_COMMANDS.get(task, "predict")} {name}' + ' IMAGE' * (task != 'features'), '```', '']
    classes = described.get('classes') or []
    if classes:
        lines += ['## Classes', '', '| id | name |', '|---|---|',
                  *(f'| {one.get("id", "")} | {_cell(one.get("name"))} |' for one in classes), '']
    results = described.get('results') or {}
    if results:
        place = f' after {described["results_iter"]} iterations' if described.get('results_iter') else ''
        lines += ['## Results', '', f'Of the last validation{place}, and the training loss at the end:', '',
                  '| metric | value |', '|---|---|',
                  *(f'| {_cell(key)} | {value:.4g} |' for key, value in results.items()), '']
    facts = {'epoch': meta.get('epoch'), 'iteration': meta.get('iter'), 'saved': meta.get('time'),
             'command': described.get('command'), 'commit': described.get('commit'),
             'pixels': ', '.join(f'{key} {value}' for key, value in (described.get('pixels') or {}).items()),
             'versions': ', '.join(f'{key} {value}' for key, value in (described.get('versions') or {}).items())}
    lines += ['## Training', '', '| | |', '|---|---|',
              *(f'| {key} | {_cell(value)} |' for key, value in facts.items() if value not in (None, '')), '',
              'The whole config is in the metadata of the file: `mae-backbone info --show-config`.', '',
              '## License', '', 'Not stated. Fine-tuned public weights keep their terms: those of the public MAE '
              'code are under CC BY-NC 4.0.', '']
    return '\n'.join(lines)


def _cell(value: object) -> str:
    return str(value).replace('|', '\\|').replace('\n', ' ').replace('<', '&lt;')
