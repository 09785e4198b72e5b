"""Chooses among several sets of weights in a file: average or trained, teacher or student."""
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mae_backbone.checkpoints.reading import CheckpointError

# Top-level keys of training files. The first group are averages over the training, which the code that writes them
# evaluates (timm, DeiT, DINO `eval_linear.py --checkpoint_key teacher`, I-JEPA).
_AVERAGED = ('state_dict_ema', 'model_ema', 'ema', 'ema_state_dict', 'teacher', 'target_encoder')
_TRAINED = ('state_dict', 'model', 'student', 'encoder', 'module', 'model_state_dict', 'model_state', 'net', 'weights')
_NO_WEIGHTS = ('optimizer', 'opt', 'scaler', 'loss_scaler', 'amp', 'amp_scaler', 'lr_scheduler', 'scheduler',
               'message_hub', 'param_schedulers', 'meta', 'args', 'predictor', 'dino_loss')
# Parts of a prefix. MoCo v3 evaluates its base encoder (`main_lincls.py`), which therefore is no 'student' by default.
_AVERAGED_PARTS = ('teacher', 'ema', 'target', 'momentum')
_SYNONYMS = {'student': ('student', 'base_encoder', 'encoder', 'model', 'state_dict'),
             'teacher': ('teacher', 'momentum_encoder', 'target_encoder', 'state_dict_ema', 'model_ema', 'ema')}
# Wrappers that training puts around modules: DataParallel, torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r'^(module\.)+|(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


class FoundWeights(NamedTuple):
    """Weights that were chosen in a file.

    Attributes:
        readers: name, without wrappers -> function that returns the tensor.
        content: the top level of the file.
        key: key of the weights, or ''.
        other_keys: keys of other weights.
    """

    readers: dict[str, Callable[[], Tensor]]
    content: dict[str, Any]
    key: str
    other_keys: list[str]


def find_weights(sets: Mapping[str, Mapping[str, Callable[[], Tensor]]] | None, content: object, key: str | None,
                 path: str | Path) -> FoundWeights:
    """Chooses the weights of a file.

    Args:
        sets: key -> named readers; None to find them in `content`.
        content: of the file.
        key: asked for by the user; None for the averaged ones, or for the only ones. One that names no set is left to
            `choose_prefix`.
        path: for messages.

    Raises:
        CheckpointError: there are no weights, or several sets and no rule that prefers one.
    """
    sets = _sets_in(content) if sets is None else dict(sets)
    if not sets:
        raise CheckpointError(f'{path} holds no names with tensors but a {type(content).__name__}: pass a checkpoint')
    top = content if isinstance(content, dict) else {}
    chosen = _choose(list(sets), top, key, path)
    return FoundWeights(_unwrapped(sets[chosen], path), top, chosen, [name for name in sets if name != chosen])


def _sets_in(content: object) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """All sets of named tensors: the top level, and those under its keys, one or two levels deep."""
    sets: dict[str, dict[str, Callable[[], Tensor]]] = {}

    def visit(key: str, node: object, depth: int) -> None:
        if not isinstance(node, dict):
            return
        tensors = {str(name): value for name, value in node.items() if isinstance(value, Tensor)}
        if tensors:
            sets[key] = {name: _constant(value) for name, value in tensors.items()}
        elif depth:
            for name, value in node.items():
                if name not in _NO_WEIGHTS:
                    visit(f'{key}.{name}'.lstrip('.'), value, depth - 1)

    visit('', content, 2)
    return sets


def _constant(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value


def _choose(keys: Sequence[str], content: Mapping[str, Any], key: str | None, path: str | Path) -> str:
    if key is not None:
        for name in (key, *_SYNONYMS.get(key, ())):
            if name in keys:
                return name
    if len(keys) == 1:
        return keys[0]
    # MMEngine's EMAHook swaps the two when it saves: the average is in `state_dict`.
    swapped = 'message_hub' in content or 'meta' in content
    order = (*_TRAINED, *_AVERAGED) if swapped else (*_AVERAGED, *_TRAINED)
    for name in order:
        if name in keys:
            return name
    raise CheckpointError(f'{path} holds several sets of weights, under {", ".join(map(repr, keys))}: choose one with '
                          '--weights-key')


def _unwrapped(readers: Mapping[str, Callable[[], Tensor]], path: str | Path) -> dict[str, Callable[[], Tensor]]:
    """The readers under names without wrappers of training."""
    names = {name: _WRAPPERS.sub('', name) for name in readers}
    if len(set(names.values())) < len(names):
        raise CheckpointError(f'{path} holds the same tensors twice, with and without the wrappers of training '
                              '(module., _orig_mod.): save the weights again without them')
    return {names[name]: reader for name, reader in readers.items()}


def is_asked_for(name: str, key: str) -> bool:
    """True if a top-level key is what `--weights-key` asks for."""
    return name in (key, *_SYNONYMS.get(key, ()))


def choose_prefix(prefixes: Sequence[str], key: str | None, path: str | Path) -> str:
    """Chooses one of several ViTs in a set of weights, by their prefixes.

    Raises:
        CheckpointError: none is preferred, or `key` names none.
    """
    def having(words: Sequence[str]) -> list[str]:
        return [prefix for prefix in prefixes if any(word in re.split(r'[._]', prefix) or word in prefix.split('.')
                                                     for word in words)]

    if key is not None:
        for word in (key, *_SYNONYMS.get(key, ())):
            if len(found := having([word])) == 1:
                return found[0]
        others = [prefix for prefix in prefixes if prefix not in having(_AVERAGED_PARTS)]
        if key == 'student' and len(prefixes) > 1 and len(others) == 1:
            return others[0]
        if len(prefixes) == 1:
            raise CheckpointError(f'{path} has no weights that --weights-key {key} could mean: it holds one ViT, leave '
                                  'the option out')
        raise CheckpointError(f'{path} holds {len(prefixes)} ViTs, under {list(prefixes)}, and --weights-key {key} is '
                              'none of them: pass a part of one of these prefixes')
    for words in (('base_encoder',), _AVERAGED_PARTS):
        if len(found := having(words)) == 1:
            return found[0]
    raise CheckpointError(f'{path} holds {len(prefixes)} ViTs, under {list(prefixes)}; expected exactly one: choose '
                          'one with --weights-key and a part of its prefix')
