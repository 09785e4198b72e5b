"""Merges low-rank adapters (LoRA) in checkpoints: a weight W with the adapter matrices A and B becomes W + B A."""
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from mae_backbone.checkpoints.reading import CheckpointError

# The adapter of a weight NAME.weight (out, in) is NAME.lora_A.weight (rank, in) and NAME.lora_B.weight (out, rank).
SUFFIXES = ('.lora_A.weight', '.lora_B.weight')
_A, _B = SUFFIXES
Reader = Callable[[], Tensor]


def has_adapters(names: Iterable[str]) -> bool:
    """True if one of the names belongs to an adapter."""
    return any(name.endswith(SUFFIXES) for name in names)


def merged_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights with their adapters merged into them.

    Raises:
        CheckpointError: as in `merged_readers`.
    """
    if not has_adapters(weights):
        return dict(weights)
    return {name: read() for name, read in merged_readers({name: _constant(value)
                                                           for name, value in weights.items()}).items()}


def merged_readers(readers: Mapping[str, Reader]) -> dict[str, Reader]:
    """Like `merged_weights`, for functions that return the tensors instead of tensors.

    Raises:
        CheckpointError: the weight or a matrix of an adapter is missing, or their shapes do not fit.
    """
    layers = sorted({name.removesuffix(suffix) for name in readers for suffix in SUFFIXES if name.endswith(suffix)})
    result = {name: read for name, read in readers.items() if not name.endswith(SUFFIXES)}
    for layer in layers:
        parts = [f'{layer}.weight', layer + _A, layer + _B]
        missing = [name for name in parts if name not in readers]
        if missing:
            raise CheckpointError(f'the adapter of {layer} has no {", ".join(missing)}: the file was changed, copy it '
                                  'again')
        result[parts[0]] = _merging(layer, *(readers[name] for name in parts))
    return result


def drop_adapters(backbone: MutableMapping[str, Any]) -> bool:
    """Removes `lora` from the config of a backbone, for merged weights. Returns True if the config had `lora`."""
    return backbone.pop('lora', None) is not None


def _merging(layer: str, weight: Reader, down: Reader, up: Reader) -> Reader:
    def merge() -> Tensor:
        W, A, B = weight(), down(), up()
        if not W.ndim == A.ndim == B.ndim == 2 or A.shape[1] != W.shape[1] or B.shape != (len(W), len(A)):
            raise CheckpointError(f'the adapter of {layer} has {tuple(A.shape)} and {tuple(B.shape)}, its weight '
                                  f'{tuple(W.shape)}: the file was changed, copy it again')
        return W + (B @ A).to(W.dtype)
    return merge


def _constant(value: Tensor) -> Reader:
    return lambda: value
