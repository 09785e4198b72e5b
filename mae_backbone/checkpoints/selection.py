"""Selects one of several sets of weights in a file, such as averaged or trained weights, teacher or student."""
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mae_backbone.checkpoints.reading import CheckpointError

# Top-level keys of weights in training checkpoints, by priority. `_AVERAGED` are moving averages of the weights, which
# the code that writes them also evaluates (timm, DeiT, DINO `eval_linear.py --checkpoint_key teacher`, I-JEPA).
_AVERAGED = ('state_dict_ema', 'model_ema', 'ema', 'ema_state_dict', 'teacher', 'target_encoder')
_TRAINED = ('state_dict', 'model', 'student', 'encoder', 'module', 'model_state_dict', 'model_state', 'net', 'weights')
_NO_WEIGHTS = ('optimizer', 'opt', 'scaler', 'loss_scaler', 'amp', 'amp_scaler', 'lr_scheduler', 'scheduler',
               'message_hub', 'param_schedulers', 'meta', 'args', 'predictor', 'dino_loss')
# Parts of prefixes of averaged weights. MoCo v3 is an exception: it evaluates its base encoder (`main_lincls.py`),
# which is therefore preferred (`choose_prefix`).
_AVERAGED_PARTS = ('teacher', 'ema', 'target', 'momentum')
_SYNONYMS = {'student': ('student', 'base_encoder', 'encoder', 'model', 'state_dict'),
             'teacher': ('teacher', 'momentum_encoder', 'target_encoder', 'state_dict_ema', 'model_ema', 'ema')}
# Prefixes of wrappers of modules: DataParallel, torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r'^(module\.)+|(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


class FoundWeights(NamedTuple):
    """Weights that were selected in a file.

    Attributes:
        readers: function that returns each tensor, by its name without prefixes of wrappers.
        content: top level of the file.
        key: top-level key of the weights, or ''.
        other_keys: keys of the weights that were not selected.
    """

    readers: dict[str, Callable[[], Tensor]]
    content: dict[str, Any]
    key: str
    other_keys: list[str]


def find_weights(sets: Mapping[str, Mapping[str, Callable[[], Tensor]]] | None, content: object, key: str | None,
                 path: str | Path) -> FoundWeights:
    """Selects the weights of a file.

    Args:
        sets: sets of weights by their key, each with readers by name; None to find them in `content`.
        content: content of the file.
        key: key that the user has given; None for the averaged weights, or for the only set of weights. A key that is
            not the key of a set is ignored here, because `choose_prefix` uses it.
        path: path of the file, for messages.

    Raises:
        CheckpointError: there are no weights, or there are several sets and none of them has a known key.
    """
    sets = _sets_in(content) if sets is None else dict(sets)
    if not sets:
        raise CheckpointError(f'{path} holds no names with tensors but a {type(content).__name__}: pass a checkpoint')
    top = content if isinstance(content, dict) else {}
    chosen = _choose(list(sets), top, key, path)
    return FoundWeights(_unwrapped(sets[chosen], path), top, chosen, [name for name in sets if name != chosen])


def _sets_in(content: object) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """Returns all sets of named tensors by their key: at the top level, and one or two levels below it."""
    sets: dict[str, dict[str, Callable[[], Tensor]]] = {}

    def visit(key: str, node: object, depth: int) -> None:
        if not isinstance(node, dict):
            return
        tensors = {str(name): value for name, value in node.items() if isinstance(value, Tensor)}
        # Next to its weights, a training checkpoint may have tensors such as the last loss or states of generators.
        has_weights = any(isinstance(node.get(name), dict) for name in (*_AVERAGED, *_TRAINED))
        if tensors and not has_weights:
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
    # EMAHook of MMEngine exchanges the two sets when it saves a checkpoint: `state_dict` has the averaged weights.
    swapped = 'message_hub' in content or 'meta' in content
    order = (*_TRAINED, *_AVERAGED) if swapped else (*_AVERAGED, *_TRAINED)
    for name in order:
        if name in keys:
            return name
    raise CheckpointError(f'{path} holds several sets of weights, under {", ".join(map(repr, keys))}: choose one with '
                          '--weights-key')


def _unwrapped(readers: Mapping[str, Callable[[], Tensor]], path: str | Path) -> dict[str, Callable[[], Tensor]]:
    """Returns the readers by names without prefixes of wrappers."""
    names = {name: _WRAPPERS.sub('', name) for name in readers}
    if len(set(names.values())) < len(names):
        raise CheckpointError(f'{path} holds the same tensors twice, with and without the wrappers of training '
                              '(module., _orig_mod.): save the weights again without them')
    return {names[name]: reader for name, reader in readers.items()}


def is_asked_for(name: str, key: str) -> bool:
    """True if the top-level key `name` is selected by `--weights-key`."""
    return name in (key, *_SYNONYMS.get(key, ()))


def choose_prefix(prefixes: Sequence[str], key: str | None, path: str | Path) -> str:
    """Selects one of several ViTs in a set of weights by their prefixes.

    Args:
        prefixes: prefixes of the ViTs.
        key: value of `--weights-key`; None if not given.
        path: path of the file, for messages.

    Raises:
        CheckpointError: `key` does not select a single ViT; or it is None, and there is no rule for these prefixes.
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
