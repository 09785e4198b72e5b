"""Rename tables between a public layout of ViT weights and our names, usable in both directions."""
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

# Pattern of the text that a field of a template matches.
_FIELDS = {'i': r'(?P<i>\d+)', 'p': r'(?P<p>weight|bias)', 'rest': r'(?P<rest>.+)'}

Join = Callable[..., Tensor]             # their tensors -> our tensor
Split = Callable[[Tensor], tuple[Tensor, ...]]  # our tensor -> theirs


@dataclass(frozen=True)
class Rule:
    """One line of a rename table: one of our names, and the names of a layout that hold its values.

    Names are templates: `{i}` matches the index of a block, `{p}` `weight` or `bias`, and `{rest}` any text.

    Attributes:
        ours: template of our name.
        theirs: template of their name, or several.
        join: their tensors, in this order -> our tensor. None if only the name differs.
        split: our tensor -> their tensors. None if only the name differs, or if there is no way back. A rule that has
            `join` without `split` is only used inward.
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
    """Rule that computes one of our tensors from the tensors of a file."""

    names: tuple[str, ...]
    join: Join | None = None

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The tensor, from the weights of a file."""
        tensors = [weights[name] for name in self.names]
        return tensors[0] if self.join is None else self.join(*tensors)


def inward(rules: Iterable[Rule], names: Iterable[str], prefix: str = '') -> dict[str, Step]:
    """Plans the conversion from the names of a layout to our names.

    The first rule that has all of its names in the file wins. A template with `{rest}` takes only names that no rule
    has used.

    Args:
        rules: of the layout.
        names: of the file, without the prefix.
        prefix: put in front of the names of the steps.

    Returns:
        Our name -> the step that makes its tensor. Names without a rule are not in it.
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
    """Tensors under our names -> tensors under the names of a layout. Names without a rule are left out."""
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
    """The fields of a template in a name; None if the name does not fit."""
    found = _pattern(template).fullmatch(name)
    return None if found is None else found.groupdict()


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r'\{(\w+)\}', template)  # text and names of fields in turn
    return re.compile(''.join(_FIELDS[piece] if k % 2 else re.escape(piece) for k, piece in enumerate(pieces)))


# --- functions of rules

def cat(*tensors: Tensor) -> Tensor:
    """Query, key and value, each (D, ...) -> one tensor (3 D, ...)."""
    return torch.cat(tensors)


def thirds(tensor: Tensor) -> tuple[Tensor, ...]:
    """(3 D, ...) -> query, key and value, each (D, ...): the inverse of `cat`."""
    return tuple(part.clone() for part in tensor.chunk(3))


def cat_without_key(query: Tensor, value: Tensor) -> Tensor:
    """Biases of query and value (D,) -> (3 D,). BEiT has no bias of the key, because it does not change the softmax."""
    return torch.cat([query, torch.zeros_like(query), value])


def fold_scale(tensor: Tensor, scale: Tensor) -> Tensor:
    """Weight (D, ...) or bias (D,) of the last layer of a branch, times LayerScale (D,): the same function."""
    return tensor * scale.reshape(-1, *[1] * (tensor.ndim - 1))


def add_class_row(positions: Tensor) -> Tensor:
    """Positions of patches (1, L, D) or (1, h, w, D) -> (1, 1 + L, D) with zeros for the class token."""
    positions = positions.flatten(1, -2)
    return torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)


def add_missing_class_row(positions: Tensor) -> Tensor:
    """Calls `add_class_row` if the positions are for a square grid of patches. Otherwise they already have the row."""
    number = positions.shape[1]
    return add_class_row(positions) if round(number**0.5) ** 2 == number else positions


def drop_class_row(positions: Tensor) -> tuple[Tensor]:
    """(1, 1 + L, D) -> (1, L, D): the inverse of `add_class_row`."""
    return positions[:, 1:].clone(),


def drop_class_row_to_grid(positions: Tensor) -> tuple[Tensor]:
    """(1, 1 + h * h, D) -> (1, h, h, D): the inverse of `add_class_row`."""
    side = round((positions.shape[1] - 1) ** 0.5)
    return positions[:, 1:].unflatten(1, (side, -1)).clone(),


def no_positions(class_token: Tensor) -> Tensor:
    """Class token (1, 1, D) -> positions (1, 1 + 1, D) of zeros, for a layout without absolute positions."""
    return class_token.new_zeros(1, 2, class_token.shape[-1])
