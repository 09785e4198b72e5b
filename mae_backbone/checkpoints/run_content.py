"""Checks the types of the values in the checkpoint of a run, because MMEngine and the training loops do not."""
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from mae_backbone.checkpoints.decoding import History
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.state_dicts import few

_MAX_STEPS = 2**40   # limit of iterations and epochs; a larger number means that the file is damaged
_MAX_SEED = 2**64    # limit of seeds and positions


def check_run(content: dict, path: str | Path) -> None:
    """Raises CheckpointError if a value in a checkpoint does not have the type that MMEngine writes.

    Args:
        content: result of `read_content`, with `state_dict` and `meta`.
        path: path of the checkpoint, for the message.
    """
    bad = list(_bad_parts(content))
    if bad:
        raise CheckpointError(f'{path} is not a checkpoint of a run: {few(bad)} not as MMEngine writes it. It was '
                              'changed or damaged: copy the file again')


def _bad_parts(content: dict) -> Iterator[str]:
    """Yields the names of values with a wrong type."""
    hub, meta = content.get('message_hub', {}), content['meta']
    dicts = {'state_dict': content['state_dict'], 'meta': meta, 'message_hub': hub,
             'optimizer': content.get('optimizer', {})}
    if isinstance(hub, dict) and hub:
        dicts |= {f'message_hub.{name}': hub.get(name) for name in ('log_scalars', 'runtime_info', 'resumed_keys')}
    bad = [name for name, value in dicts.items() if not isinstance(value, dict) or not all(
        isinstance(key, str) for key in value)]
    if bad:
        yield from bad
        return
    yield from (f'state_dict.{name}' for name, value in content['state_dict'].items() if not isinstance(value, Tensor))
    yield from _bad_meta(meta)
    if hub:
        yield from (f'log_scalars.{name}' for name, value in hub['log_scalars'].items()
                    if not isinstance(value, History))
        yield from (f'resumed_keys.{name}' for name, value in hub['resumed_keys'].items()
                    if not isinstance(value, bool))
        yield from _bad_info(hub['runtime_info'])
    schedulers = content.get('param_schedulers', [])
    several = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    if not all(isinstance(states, list) and all(map(_is_scheduler, states)) for states in several):
        yield 'param_schedulers'


def _bad_meta(meta: dict) -> Iterator[str]:
    yield from (f'meta.{name}' for name in ('epoch', 'iter') if not _is_number(meta.get(name, 0), _MAX_STEPS))
    if meta.get('seed') is not None and not _is_number(meta['seed'], 2**32):  # limit of NumPy
        yield 'meta.seed'
    data = meta.get('dataset_meta')
    if data is not None and not isinstance(data, dict):
        yield 'meta.dataset_meta'
    elif data and data.get('classes') is not None and not _are_names(data['classes']):
        yield 'meta.dataset_meta.classes'


def _bad_info(info: dict) -> Iterator[str]:
    """Yields the names of wrong values among the positions and seeds of the data, which `engine.loops` stores."""
    data, seeds = info.get('data'), info.get('seeds')
    if data is not None and not (isinstance(data, dict) and all(_is_number(value, _MAX_SEED)
                                                                for value in data.values())):
        yield 'runtime_info.data'
    if seeds is not None and not (
            isinstance(seeds, dict) and _is_number(seeds.get('items'), _MAX_SEED)
            and (seeds.get('order', ()) is None or _is_number(seeds.get('order'), _MAX_SEED))):
        yield 'runtime_info.seeds'


def _is_number(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def _are_names(value: object) -> bool:
    return isinstance(value, (list, tuple, str)) and all(isinstance(name, str) for name in value)


def _is_scheduler(state: object) -> bool:
    """True if a value can be the state of a scheduler of MMEngine. Only the values that it uses are checked."""
    if not isinstance(state, dict) or not _is_plain(state):
        return False
    values = state.get('_last_value', [])
    last_step = state.get('last_step', 0)  # -1 if the scheduler has not begun, such as the one after a warm-up
    begun = last_step == -1 or _is_number(last_step, _MAX_STEPS)
    return (begun and _is_number(state.get('_global_step', 0), _MAX_STEPS)
            and isinstance(values, list) and all(type(value) in (int, float) for value in values))


def _is_plain(value: object) -> bool:
    """True if a value consists only of None, numbers, text, lists, tuples and dicts."""
    if isinstance(value, (dict, list, tuple)):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values() if isinstance(value, dict) else ()))
    return value is None or isinstance(value, (bool, int, float, str))
