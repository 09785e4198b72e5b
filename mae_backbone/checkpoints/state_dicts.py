"""Finds named weights in checkpoints, compares them with a model, and checks that they are finite."""
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.safetensors_file import is_finite
from mae_backbone.checkpoints.weight_files import open_weights
from mae_backbone.utils.printable import printable


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint file or folder by name, on the CPU. Averaged weights take precedence.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, or has no weights.
    """
    return dict(open_weights(path).weights)


def weights_in(content: object, path: str | Path) -> dict[str, Tensor]:
    """Returns the weights in the content of the file at `path` by name. Raises CheckpointError if it has none."""
    for key in ('state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f'{path} holds no names with tensors but a {type(content).__name__}: pass a checkpoint')
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name.removeprefix('module.'): value for name, value in weights.items()}


def check_finite(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises CheckpointError with the names of the tensors that have NaN or infinite values, if there are any."""
    bad = sorted(name for name, value in weights.items() if not is_finite(value))
    if bad:
        raise CheckpointError(not_finite(path, bad, len(weights)))


def not_finite(path: str | Path, names: Iterable[str], total: int) -> str:
    """Returns the error message about tensors of a file that have NaN or infinite values."""
    names = list(names)
    return (f'{path} holds NaN or infinite values in {len(names)} of {total} tensors ({few(names)}): its training has '
            'diverged or the file was damaged before it was saved. Pass an earlier checkpoint')


def mismatches(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], *,
               may_miss: tuple[str, ...] = ()) -> str:
    """Compares names, shapes and dtypes of weights with a model. Returns a line for each kind of difference, or ''.

    Args:
        weights: weights of a file.
        expected: weights of the model.
        may_miss: suffixes of names that may be missing in `weights`.
    """
    missing = {name for name in expected.keys() - weights.keys() if not name.endswith(may_miss)}
    shapes = [f'{name}: {tuple(weights[name].shape)} in the file, {tuple(expected[name].shape)} in the model'
              for name in weights.keys() & expected.keys() if weights[name].shape != expected[name].shape]
    dtypes = [f'{name}: {weights[name].dtype} in the file, {expected[name].dtype} in the model'
              for name in weights.keys() & expected.keys()
              if weights[name].is_floating_point() != expected[name].is_floating_point()]
    return (_listing('in the file, not in the model', weights.keys() - expected.keys())
            + _listing('in the model, not in the file', missing) + _listing('of another shape', shapes)
            + _listing('of another dtype', dtypes))


def _listing(title: str, names: Iterable[str]) -> str:
    names = sorted(names)
    return f'  {len(names)} {title}: {few(names)}\n' if names else ''


def few(names: Iterable[str]) -> str:
    """Returns a text with the first eight names, and the number of the others."""
    names = list(names)
    return ', '.join(map(printable, names[:8])) + (f' and {len(names) - 8} more' if len(names) > 8 else '')
