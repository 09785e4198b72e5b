"""Opens weight files of any format, and folders of Hugging Face and timm."""
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mae_backbone.checkpoints.adapters import merged_readers
from mae_backbone.checkpoints.model_index import resolve
from mae_backbone.checkpoints.reading import CheckpointError, damage_reported, existing_file, read_content
from mae_backbone.checkpoints.safetensors_file import StoredTensor, open_safetensors
from mae_backbone.checkpoints.selection import find_weights

# File names that transformers, timm and open_clip write into a folder, in the order in which they are tried.
_IN_FOLDER = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json',
              'open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
_MAX_JSON = 1 << 24  # bytes; the index of a model with 10,000 tensors has about 1 MB


class LazyTensors(Mapping[str, Tensor]):
    """Named tensors that are read on access.

    Attributes:
        readers: name -> function that returns the tensor.
        lazy: True if each access reads from the disk, False if the tensors are in memory.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]], *, lazy: bool) -> None:
        self.readers, self.lazy = dict(readers), lazy

    def __getitem__(self, name: str) -> Tensor:
        return self.readers[name]()

    def stored(self, name: str) -> StoredTensor | None:
        """Returns the place of a tensor in its file, or None if it is in memory."""
        reader = self.readers[name]
        return reader if isinstance(reader, StoredTensor) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


@dataclass
class WeightFile:
    """The content of a file or a folder.

    Attributes:
        path: path of the file or folder.
        weights: the selected tensors, without prefixes of training such as `module.` and `_orig_mod.`, and with
            low-rank adapters added to the weights that they adapt.
        content: top level of the file, or the metadata of safetensors.
        config, preprocessor: content of `config.json` and `preprocessor_config.json` next to the weights, or {}.
        key: top-level key of the selected weights, or ''.
        other_keys: keys of other weights in the file.
    """

    path: Path
    weights: LazyTensors
    content: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    key: str = ''
    other_keys: list[str] = field(default_factory=list)


def open_weights(path: str | Path, key: str | None = None, *, outline: bool = False) -> WeightFile:
    """Opens the weights at a path. Tensors of safetensors are read one by one, on access.

    Args:
        path: a file (`.pth`, `.bin`, `.pkl`, `.safetensors`, or the index of several files), a folder with a
            `config.json`, or the name of public weights (`model_index`).
        key: selects the weights in a file with several: a top-level key, 'student' or 'teacher'. None selects the
            averaged weights, see `selection`.
        outline: read as few tensors as possible, for callers that need only the other content of the file.

    Raises:
        FileNotFoundError: the file does not exist, or the folder has no weight file.
        CheckpointError: the file cannot be read, or has no weights.
    """
    path = resolve(path)
    file = file_in(path) if path.is_dir() else existing_file(path)
    # A config.json describes the weights with a usual file name in its folder, and no other file.
    config_folder = file.parent if file.name in _IN_FOLDER or path.is_dir() else None
    config, preprocessor = ({} if config_folder is None else read_json(config_folder / name, must_exist=False)
                            for name in ('config.json', 'preprocessor_config.json'))
    readers: Mapping[str, Callable[[], Tensor]]
    if file.name.endswith('.index.json'):
        readers, lazy = _open_shards(file)
        found = find_weights({'': readers}, {}, key, path)
    elif is_safetensors(file):
        with damage_reported(file):
            readers, metadata = open_safetensors(file)
            stated = _stated(metadata)
        lazy, found = True, find_weights({'': readers}, stated, key, path)
    else:
        content = read_content(file, outline=outline)
        lazy, found = False, find_weights(None, content, key, path)
    return WeightFile(path, LazyTensors(merged_readers(found.readers), lazy=lazy), found.content, config, preprocessor,
                      found.key, found.other_keys)


def weights_in_content(content: object, path: str | Path, key: str | None = None) -> WeightFile:
    """Finds the weights in the content of a file that was read before, as `open_weights` does."""
    found = find_weights(None, content, key, path)
    return WeightFile(Path(path), LazyTensors(merged_readers(found.readers), lazy=False), found.content, key=found.key,
                      other_keys=found.other_keys)


def _stated(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the metadata of safetensors, with the `meta` of a published checkpoint (`published`) decoded."""
    text = metadata.get('mae_backbone')
    meta = None if text is None else json.loads(text)
    return {**metadata, 'meta': meta} if isinstance(meta, dict) else dict(metadata)


def is_safetensors(path: Path) -> bool:
    """True if the suffix or the first bytes of a file are of safetensors."""
    with open(path, 'rb') as file:
        return path.suffix == '.safetensors' or file.read(9)[8:] == b'{'


def file_in(folder: Path) -> Path:
    """Returns the weight file in a folder. Raises FileNotFoundError if there is none."""
    for name in _IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    checkpoints = sorted(file.name for file in folder.glob('*.pth'))
    advice = f'. It contains {", ".join(checkpoints[:5])}: pass one of them' if checkpoints else ': pass a file'
    raise FileNotFoundError(f'{folder} is a folder, and has neither {_IN_FOLDER[0]} nor {_IN_FOLDER[2]}, as Hugging '
                            'Face and timm name their weights' + advice)


def files_of(path: str | Path) -> list[Path]:
    """Returns all files with the weights of a path: the file, or the weight files and the config of a folder.

    Raises:
        FileNotFoundError: the file does not exist, or the folder has no weight file.
        CheckpointError: an index cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return [existing_file(path)]
    file = file_in(path)
    shards = [file.parent / name for name in _shard_names(file)] if file.name.endswith('.index.json') else []
    return [one for one in (file, *shards, path / 'config.json') if one.is_file()]


def read_json(path: Path, *, must_exist: bool = True) -> dict[str, Any]:
    """Reads a JSON object. Returns {} if the file does not exist and `must_exist` is False.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file is not a JSON object, or is larger than 16 MB.
    """
    if not path.is_file() and not must_exist:
        return {}
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f'{path.stat().st_size:,} bytes')
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON ({str(error)[:200] or "nested too deeply"}): copy the '
                              'file again') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} is not a JSON object: copy the file again')
    return content


def _open_shards(index: Path) -> tuple[dict[str, Callable[[], Tensor]], bool]:
    """Opens all weight files of an index. They must be in its folder."""
    readers: dict[str, Callable[[], Tensor]] = {}
    names, lazy = _shard_names(index), True
    places = read_json(index)['weight_map']
    for name in names:
        file = existing_file(index.parent / name)
        stored: Mapping[str, Callable[[], Tensor]]
        if is_safetensors(file):
            with damage_reported(file):
                stored = open_safetensors(file)[0]
        else:
            stored, lazy = find_weights(None, read_content(file), None, file).readers, False
        # Several files may have a tensor of the same name. The index states which one belongs to the model.
        readers |= {tensor: reader for tensor, reader in stored.items() if places.get(tensor, name) == name}
    missing = sorted(places.keys() - readers.keys())
    if missing:
        raise CheckpointError(f'{index} names {len(missing)} tensors that its files do not have, such as '
                              f'{missing[0]}: copy the folder again')
    return readers, lazy


def _shard_names(index: Path) -> list[str]:
    """Returns the names of the weight files of an index. They must be in its folder."""
    files = read_json(index).get('weight_map')
    if not isinstance(files, dict) or not files or not all(
            isinstance(name, str) and name == Path(name).name and name not in ('', '.', '..')
            for name in files.values()):
        raise CheckpointError(f'{index} has no weight_map of tensors to files next to it: copy the folder again')
    return sorted(set(files.values()))
