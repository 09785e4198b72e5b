"""Published checkpoints: safetensors files whose metadata contain `meta` of the checkpoint, with config and classes."""
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from mae_backbone.checkpoints.adapters import drop_adapters, merged_weights
from mae_backbone.checkpoints.config_text import config_text_in, parse_config
from mae_backbone.checkpoints.reading import CheckpointError, damage_reported, existing_file, read_content
from mae_backbone.checkpoints.safetensors_file import open_safetensors
from mae_backbone.checkpoints.state_dicts import check_finite, weights_in
from mae_backbone.checkpoints.weight_files import is_safetensors
from mae_backbone.utils.atomic_write import atomic_path

# Key in the metadata of a safetensors file. Its value is `meta` of the checkpoint as a JSON object.
KEY = 'mae_backbone'


def read_checkpoint(path: str | Path) -> object:
    """Reads a checkpoint like `read_content`. A published checkpoint is returned as dict(state_dict=..., meta=...).

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, or its metadata are damaged.
    """
    file = existing_file(Path(path))
    if not is_safetensors(file):
        return read_content(file)
    with damage_reported(file):
        readers, metadata = open_safetensors(file)
        if KEY in metadata:
            meta = json.loads(metadata[KEY])
            if not isinstance(meta, dict):
                raise ValueError(f'the metadata {KEY} is no JSON object')
            return {'state_dict': {name: read() for name, read in readers.items()}, 'meta': meta}
    return read_content(file)


def write_published(source: str | Path, target: str | Path) -> tuple[dict[str, Any], int]:
    """Writes the weights and the metadata of a checkpoint to a safetensors file, without the state of the training.

    Optimizer, schedules and log history are not written, and low-rank adapters are merged into the weights. Absolute
    paths in the config and in the command are shortened to the file name, because they reveal folders of the machine.

    Args:
        source: checkpoint of `mae-backbone train` or `mae-backbone pretrain`.
        target: path that ends in .safetensors, in an existing folder.

    Returns:
        The `meta` that was written, and the number of parameters.

    Raises:
        FileNotFoundError: the source, or the folder of the target, does not exist.
        CheckpointError: the source cannot be read, has no config, or has weights that are not finite.
        ValueError: the target has another suffix, or is the source.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    target = Path(target)
    if target.suffix != '.safetensors':
        raise ValueError(f'{target}: expected a name that ends in .safetensors')
    if not target.parent.is_dir():
        raise FileNotFoundError(f'the folder {target.parent} does not exist: create it, or choose another name')
    if target.exists() and target.samefile(source):
        raise ValueError(f'{target} would replace the checkpoint: choose another name')
    content = read_checkpoint(source)
    meta = _public_meta(content, source)
    weights = {name: _own_memory(value) for name, value in merged_weights(weights_in(content, source)).items()}
    check_finite(weights, source)
    try:
        with atomic_path(target, durable=True) as temporary:
            save_file(weights, temporary, {'format': 'pt', KEY: json.dumps(meta)})
    except SafetensorError as error:
        raise OSError(f'{target} cannot be written ({error}): check its folder and the space on the disk') from error
    return meta, sum(value.numel() for value in weights.values())


def _own_memory(value: Tensor) -> Tensor:
    """Copies a tensor, because safetensors refuses tensors that share memory or are not contiguous."""
    return value.detach().clone().contiguous()


def _public_meta(content: object, path: str | Path) -> dict[str, Any]:
    meta = content.get('meta') if isinstance(content, dict) else None
    cfg = parse_config(config_text_in(content))
    if not isinstance(meta, dict) or not isinstance(cfg.get('model'), dict):
        raise CheckpointError(f'{path} has no config with a model: publish a checkpoint of `mae-backbone train` or '
                              '`mae-backbone pretrain`; for other weights use their own format')
    drop_adapters(cfg['model'].get('backbone') or {})
    kept = {key: _plain(meta[key]) for key in ('epoch', 'iter', 'seed', 'time', 'experiment_name', 'dataset_meta',
                                                'mmengine_version', KEY) if key in meta}
    described = kept.get(KEY)
    if isinstance(described, dict) and isinstance(described.get('command'), str):
        described['command'] = ' '.join(map(_without_folder, described['command'].split(' ')))
    return kept | {'cfg': '\n'.join(f'{key} = {_shortened(value)!r}' for key, value in cfg.items())}


def _plain(value: Any) -> Any:
    """Converts a value to the types of JSON. Other types become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _shortened(value: Any) -> Any:
    """Returns a value of a config with absolute paths shortened to the file name."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_shortened, value))
    return _without_folder(value) if isinstance(value, str) else value


def _without_folder(text: str) -> str:
    path = PurePath(text.strip('\'"'))
    return path.name or text if path.is_absolute() or text.startswith('~') else text
