"""Rules of rename tables between a public layout of ViT weights and our names, in both directions."""
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

# Pattern of each field of a template.
_FIELDS = {'i': r'(?P<i>\d+)', 'p': r'(?P<p>weight|bias)', 'rest': r'(?P<rest>.+)'}

Join = Callable[..., Tensor]             # tensors of the layout -> our tensor
Split = Callable[[Tensor], tuple[Tensor, ...]]  # our tensor -> tensors of the layout


@dataclass(frozen=True)
class Rule:
    """Entry of a rename table: one of our names, and the names of the same values in a layout.

    Names are templates: `{i}` matches the index of a block, `{p}` matches `weight` or `bias`, and `{rest}` any text.

    Attributes:
        ours: template of our name.
        theirs: templates of the names in the layout.
        join: function from the tensors of the layout, in the order of `theirs`, to our tensor. None if only the name
            differs.
        split: function from our tensor to the tensors of the layout. None if only the name differs, or if there is no
            inverse. A rule with `join` and without `split` is used only from the layout to our names.
    """

    ours: str
    theirs: tuple[str, ...]
    join: Join | None = None
    split: Split | None = None

    def __init__(self, ours: str, *theirs: str, join: Join | None = None, split: Split | None = None) -> None:
        for name, value in (('ours', ours), ('theirs', theirs), ('join', join), ('split', split)):
            object.__setattr__(self, name, value)


Rules = tuple[Rule, ...]


class Step(NamedTuple):
    """A rule applied to a file: computes one of our tensors from tensors of the file.

    Attributes:
        names: names of the tensors of the file.
        join: as in `Rule`.
    """

    names: tuple[str, ...]
    join: Join | None = None

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Returns our tensor, computed from the weights of a file."""
        tensors = [weights[name] for name in self.names]
        return tensors[0] if self.join is None else self.join(*tensors)


def inward(rules: Iterable[Rule], names: Iterable[str], prefix: str = '') -> dict[str, Step]:
    """Returns the steps that convert the names of a layout to our names.

    For each of our names, the first rule whose names are all in the file is used. A template with `{rest}` matches only
    names that no earlier rule has used.

    Args:
        rules: rules of the layout.
        names: names in the file, without the prefix.
        prefix: prefix that is added to the names of the steps.

    Returns:
        Steps by our name. Names without a rule are not included.
    """
    names = list(names)
    known, used = set(names), set[str]()
    steps: dict[str, Step] = {}
    for rule in rules:
        for name in names:
            fields = match(rule.theirs[0], name)
            if fields is None or ('rest' in fields and name in used):
                continue
            ours, sources = rule.ours.format(**fields), tuple(theirs.format(**fields) for theirs in rule.theirs)
            if ours not in steps and known.issuperset(sources):
                steps[ours] = Step(tuple(prefix + source for source in sources), rule.join)
                used.update(sources)
    return steps


def outward(rules: Iterable[Rule], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts tensors with our names to the names of a layout. Tensors without a rule are not included."""
    converted: dict[str, Tensor] = {}
    rules = [rule for rule in rules if rule.split is not None or (rule.join is None and len(rule.theirs) == 1)]
    for name, tensor in weights.items():
        for rule in rules:
            fields = match(rule.ours, name)
            if fields is None:
                continue
            tensors = (tensor,) if rule.split is None else rule.split(tensor)
            converted |= zip((theirs.format(**fields) for theirs in rule.theirs), tensors, strict=True)
            break
    return converted


def match(template: str, name: str) -> dict[str, str] | None:
    """Returns the values of the fields of a template in a name; None if the name does not match."""
    found = _pattern(template).fullmatch(name)
    return None if found is None else found.groupdict()


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r'\{(\w+)\}', template)  # text and names of fields, alternately
    return re.compile(''.join(_FIELDS[piece] if k % 2 else re.escape(piece) for k, piece in enumerate(pieces)))


# --- functions of rules

def cat(*tensors: Tensor) -> Tensor:
    """Concatenates query, key and value, each (D, ...), to (3 D, ...)."""
    return torch.cat(tensors)


def thirds(tensor: Tensor) -> tuple[Tensor, ...]:
    """Inverse of `cat`: (3 D, ...) -> query, key and value, each (D, ...)."""
    return tuple(part.clone() for part in tensor.chunk(3))


def cat_without_key(query: Tensor, value: Tensor) -> Tensor:
    """Concatenates the biases of query and value (D,), with zeros for the key, to (3 D,).

    BEiT has no bias of the key, because it does not change the softmax.
    """
    return torch.cat([query, torch.zeros_like(query), value])


def fold_scale(tensor: Tensor, scale: Tensor) -> Tensor:
    """Multiplies weight (D, ...) or bias (D,) of the last layer of a branch by LayerScale (D,).

    The product of half-precision tensors is float32: trained scales may be 1e-5, so that products in float16 would lose
    a tenth of their value, and products in float8 would be zero.
    """
    return wide(tensor) * wide(scale).reshape(-1, *[1] * (tensor.ndim - 1))


def wide(tensor: Tensor) -> Tensor:
    """Returns floating-point tensors of less than four bytes as float32, and other tensors unchanged."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor


def add_class_row(positions: Tensor) -> Tensor:
    """Adds zeros for the class token to positions of patches: (1, L, D) or (1, h, w, D) -> (1, 1 + L, D)."""
    positions = positions.flatten(1, -2)
    return torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)


def add_missing_class_row(positions: Tensor) -> Tensor:
    """Calls `add_class_row` if the positions are for a square grid of patches. Otherwise they already have the row."""
    number = positions.shape[1]
    return add_class_row(positions) if round(number**0.5) ** 2 == number else positions


def drop_class_row(positions: Tensor) -> tuple[Tensor]:
    """Inverse of `add_class_row`: (1, 1 + L, D) -> (1, L, D)."""
    return positions[:, 1:].clone(),


def drop_class_row_to_grid(positions: Tensor) -> tuple[Tensor]:
    """Inverse of `add_class_row` for a square grid: (1, 1 + h * h, D) -> (1, h, h, D)."""
    side = round((positions.shape[1] - 1) ** 0.5)
    return positions[:, 1:].unflatten(1, (side, -1)).clone(),


def no_positions(class_token: Tensor) -> Tensor:
    """Returns zero positions (1, 1 + 1, D) for a layout without absolute positions, from a class token (1, 1, D)."""
    return class_token.new_zeros(1, 2, class_token.shape[-1])
