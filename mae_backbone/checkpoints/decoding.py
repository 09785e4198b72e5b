"""Converts the tree that `safe_pickle.load` returns to plain values, tensors and log histories.

Only the names in `_DECODERS` and `_DTYPES` are allowed. Any other name is refused, even if it is not called. Shapes and
dtypes are compared with the number of bytes in the file before a tensor is created.
"""
import argparse
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mae_backbone.checkpoints.safe_pickle import Call, Name, PersistentId, UnsafePickleError

# Largest number of elements of a tensor that repeats elements of its storage (`expand`). Without this limit, the first
# operation on such a tensor could turn a few bytes of a file into gigabytes.
_MAX_EXPANDED = 2**24
# The bytes of all tensors may be this multiple of the bytes in the file, because weights may be tied or stored under
# two names.
_MAX_REPEATS = 4
_MAX_REPEATED = 2**27  # number of bytes of tensors that is always allowed
# Largest number of values. A list, tuple or dict that occurs several times is counted each time, because functions such
# as `repr` visit it each time.
_MAX_VALUES = 2**22
_FLOATS = ('float16', 'float32', 'float64', 'bfloat16', 'float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz',
           'float8_e5m2fnuz', 'complex64', 'complex128')
_INTEGERS = ('uint8', 'int8', 'int16', 'int32', 'int64', 'bool', 'uint16', 'uint32', 'uint64')
_DTYPES = {f'torch.{name}': getattr(torch, name) for name in (*_FLOATS, *_INTEGERS)}
_STORAGES = {f'torch.{kind}Storage': dtype for kind, dtype in (
    ('Half', torch.float16), ('Float', torch.float32), ('Double', torch.float64), ('BFloat16', torch.bfloat16),
    ('Byte', torch.uint8), ('Char', torch.int8), ('Short', torch.int16), ('Int', torch.int32), ('Long', torch.int64),
    ('Bool', torch.bool), ('ComplexFloat', torch.complex64), ('ComplexDouble', torch.complex128))}
_STORAGES |= {'torch.storage.UntypedStorage': torch.uint8, 'torch.UntypedStorage': torch.uint8}

Load = Callable[[str], Tensor]  # key of a storage -> tensor (n,) uint8 with its bytes


class History(NamedTuple):
    """Content of a HistoryBuffer of MMEngine with n logged values."""

    values: np.ndarray  # (n,) logged values
    counts: np.ndarray  # (n,) number of steps of each value
    max_length: int     # largest n


class _Array(NamedTuple):
    """Dtype of a NumPy array, such as 'f4', and its byte order: '<', '>', '=' or '|'."""

    name: str
    order: str

    def read(self, content: object, shape: object, order: str = 'C') -> np.ndarray:
        """Returns the array with this shape in the bytes `content`, in the byte order of this machine."""
        if not isinstance(content, (bytes, bytearray, str)) or not isinstance(shape, tuple):
            raise TypeError('an array without content or shape')
        data = content.encode('latin1') if isinstance(content, str) else bytes(content)  # text in pickles of Python 2
        if any(not _is_size(size) for size in shape) or order not in ('C', 'F'):
            raise ValueError(f'an array of shape {shape}')
        if self.name == 'b1':  # a bool is stored as 0 or 1; other bytes are invalid
            data = (np.frombuffer(data, np.uint8) != 0).tobytes()
        array = np.frombuffer(data, np.dtype(self.order + self.name)).reshape(shape, order=order)  # type: ignore[call-overload]  # order is C or F
        return np.array(array, self.name, order='C')


def decode(tree: object, load: Load | None = None) -> object:
    """Decodes the result of `safe_pickle.load`. NumPy arrays become tensors, and NumPy scalars become Python numbers.

    Args:
        tree: plain values with `Name`, `Call` and `PersistentId`.
        load: function that reads the storage of a tensor by its key; None if the file has no storages.

    Raises:
        UnsafePickleError: the tree has a name that is not allowed.
        Exception: any other error, if the tree is not as torch, NumPy or MMEngine write it.
    """
    content = _Decoder(load).decode(tree)
    if _num_values(content, {}) > _MAX_VALUES:
        raise ValueError(f'more than {_MAX_VALUES:,} values')
    return content


def _num_values(node: object, known: dict[int, int]) -> int:
    """Returns the number of values in nested containers. Shared containers are counted each time they occur."""
    if not isinstance(node, (dict, list, tuple, argparse.Namespace)):
        return 1
    if id(node) not in known:
        values = vars(node).values() if isinstance(node, argparse.Namespace) else (
            node.values() if isinstance(node, dict) else node)
        known[id(node)] = 1 + sum(_num_values(value, known) for value in values)
    return known[id(node)]


class _Decoder:
    """Decodes each object once, so that shared objects remain shared.

    Args:
        load: as in `decode`.

    Attributes:
        sources: number of bytes of each storage or array in the file.
        made: number of bytes of all tensors and arrays that were created from them.
    """

    def __init__(self, load: Load | None) -> None:
        self.load = load
        self.sources: dict[object, int] = {}
        self.storages: dict[tuple[str, torch.dtype], Tensor] = {}
        self.made = 0
        # id of an object -> (object, result). Keeping the object prevents that its id is used for another object.
        self.decoded: dict[int, tuple[object, object]] = {}
        self.pending: set[int] = set()

    def decode(self, node: object) -> object:
        if node is None or isinstance(node, (bool, int, float, str, bytes, set, frozenset)):
            return node
        key = id(node)
        if key not in self.decoded:
            if key in self.pending:
                raise ValueError('an object contains itself')
            self.pending.add(key)
            self.decoded[key] = node, self._decode(node)
            self.pending.discard(key)
        return self.decoded[key][1]

    def _decode(self, node: object) -> object:
        if isinstance(node, dict):
            return {key: self.decode(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.decode(value) for value in node]
        if isinstance(node, tuple):
            return tuple(self.decode(value) for value in node)
        if isinstance(node, bytearray):
            return bytes(node)
        if isinstance(node, Name) and node.path in _DTYPES:
            return _DTYPES[node.path]
        if isinstance(node, Call):
            path = name_of(node.function)
            if path in _DECODERS:
                return _DECODERS[path](self, node)
        raise UnsafePickleError(name_of(node))

    def count(self, source: object, size: int, made: int) -> None:
        """Counts the bytes of a tensor or array.

        Args:
            source: key of the storage or array in the file.
            size: number of bytes of the source.
            made: number of bytes of the tensor or array that is created from it.

        Raises:
            ValueError: the tensors repeat the data of the file too often.
        """
        self.sources[source] = size
        self.made += made
        if self.made > max(_MAX_REPEATED, _MAX_REPEATS * sum(self.sources.values())):
            raise ValueError(f'tensors of {self.made:,} bytes that repeat {sum(self.sources.values()):,} bytes of data')

    def arguments(self, call: Call, count: int) -> list:
        """Returns the first `count` arguments of a call, decoded."""
        if len(call.arguments) < count:
            raise TypeError(f'{name_of(call)} with {len(call.arguments)} arguments')
        return [self.decode(argument) for argument in call.arguments[:count]]


def name_of(node: object) -> str:
    """Returns the name of a node, for messages and as a key of `_DECODERS`. Renamed modules have a single name."""
    if isinstance(node, Call):
        return name_of(node.function)
    if isinstance(node, Name):
        path = re.sub(r'^numpy\._core\.', 'numpy.core.', node.path)
        return re.sub(r'^__builtin__\.', 'builtins.', path)
    return f'a {type(node).__name__}'


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# --- tensors

def _tensor(decoder: _Decoder, call: Call) -> Tensor:
    """Decodes torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, ...), or v3."""
    if len(call.arguments) < 4:
        raise TypeError('a tensor without shape')
    offset, size, stride = (decoder.decode(argument) for argument in call.arguments[1:4])
    elements = _storage(decoder, call.arguments[0])
    if name_of(call).endswith('v3'):
        elements = elements.view(decoder.decode(call.arguments[6]))  # type: ignore[call-overload]  # raises TypeError
    if not isinstance(offset, int) or not isinstance(size, tuple) or not isinstance(stride, tuple) or (
            len(size) != len(stride)):
        raise TypeError('a tensor without shape')
    if not all(map(_is_size, (offset, *size, *stride))):
        raise ValueError(f'a tensor of shape {size} and strides {stride}')
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and last >= len(elements):
        raise ValueError(f'a tensor of shape {size} in a storage of {len(elements)} elements')
    if count > max(len(elements), _MAX_EXPANDED):
        raise ValueError(f'a tensor of shape {size} that repeats {len(elements)} elements')
    decoder.count(_reference(call.arguments[0])[0], elements.nbytes, count * elements.itemsize)
    return elements.as_strided(size, stride, offset) if count else elements.new_zeros(size)


def _storage(decoder: _Decoder, node: object) -> Tensor:
    """Returns the elements (n,) of the storage to which a PersistentId refers."""
    if decoder.load is None or not isinstance(node, PersistentId):
        raise ValueError('a tensor without storage')
    key, dtype, count = _reference(node)
    if (key, dtype) not in decoder.storages:
        data = decoder.load(key)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f'storage {key} has {len(data)} bytes, not {count} elements')
        # A bool is stored as the byte 0 or 1. Other bytes would be invalid.
        decoder.storages[key, dtype] = data != 0 if dtype == torch.bool else data.view(dtype)
    return decoder.storages[key, dtype]


def element_size(reference: PersistentId) -> tuple[str, int]:
    """Returns the key of a storage, and the number of bytes of an element."""
    key, dtype, _ = _reference(reference)
    return key, dtype.itemsize


def _reference(reference: PersistentId) -> tuple[str, torch.dtype, int]:
    """('storage', type, key, device, number of elements, ...) -> key, dtype, number."""
    content = reference.content
    if not isinstance(content, tuple) or len(content) < 5 or content[0] != 'storage':
        raise ValueError('a tensor without storage')
    _, kind, key, _, count = content[:5]
    path = name_of(kind)
    if path not in _STORAGES:
        raise UnsafePickleError(path)
    if not isinstance(key, str) or not _is_size(count):
        raise TypeError('a storage without key or size')
    return key, _STORAGES[path], count


def _first_argument(decoder: _Decoder, call: Call) -> object:
    """Returns the tensor in a parameter or in a subclass of Tensor."""
    value = decoder.arguments(call, 1)[0]
    if not isinstance(value, Tensor):
        raise TypeError('a parameter without tensor')
    return value


def _from_type(decoder: _Decoder, call: Call) -> Tensor:
    """torch._tensor._rebuild_from_type_v2(function, type, arguments, state) -> the plain tensor."""
    function, _, arguments, *_ = call.arguments
    if name_of(function) not in _TENSORS or not isinstance(arguments, tuple):
        raise UnsafePickleError(name_of(function))
    return _tensor(decoder, Call(function, arguments))


# --- NumPy

def _dtype(node: object) -> _Array:
    """numpy.dtype('f4', ...) with the state (version, byte order, no fields, ...)."""
    if not isinstance(node, Call) or name_of(node) != 'numpy.dtype':
        raise UnsafePickleError('an array without a dtype')
    name = node.arguments[0] if node.arguments else None
    if not isinstance(name, str) or not re.fullmatch('f[248]|[iu][1248]|b1', name):
        raise UnsafePickleError(f'an array of {name!r:.60}')
    if node.state is None:
        return _Array(name, '=')
    if not isinstance(node.state, tuple) or len(node.state) < 5:
        raise TypeError('a dtype without byte order')
    _, order, *fields = node.state[:5]
    if order not in ('<', '>', '|', '=') or any(value is not None for value in fields):
        raise UnsafePickleError('an array of a dtype with fields')
    return _Array(name, order)


def _array(decoder: _Decoder, call: Call) -> Tensor:
    """numpy.core.multiarray._reconstruct(...) with the state (version, shape, dtype, Fortran order, content)."""
    if not isinstance(call.state, tuple) or len(call.state) != 5:
        raise TypeError('an array without content')
    _, shape, dtype, fortran, content = call.state
    return _read_array(decoder, dtype, content, shape, 'F' if fortran else 'C')


def _array_from_buffer(decoder: _Decoder, call: Call) -> Tensor:
    """numpy.core.numeric._frombuffer(content, dtype, shape, order), from protocol 5 on."""
    content, dtype, shape, order = call.arguments
    return _read_array(decoder, dtype, content, shape, order)


def _read_array(decoder: _Decoder, dtype: object, content: object, shape: object, order: str) -> Tensor:
    array = _dtype(dtype).read(_content(content), shape, order)
    decoder.count(id(content), array.nbytes, array.nbytes)
    return torch.from_numpy(array)


def _scalar(_: _Decoder, call: Call) -> object:
    """numpy.core.multiarray.scalar(dtype, content) -> a Python number."""
    dtype, content = call.arguments
    return _dtype(dtype).read(_content(content), ()).item()


def _content(node: object) -> object:
    """Bytes, which old protocols write as `_codecs.encode(text, 'latin1')`."""
    return _encoded(None, node) if isinstance(node, Call) else node


def _encoded(_: object, call: Call) -> bytes:
    if name_of(call) != '_codecs.encode' or len(call.arguments) != 2:
        raise UnsafePickleError(name_of(call))
    text, encoding = call.arguments
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise UnsafePickleError(f'_codecs.encode as {encoding}')
    return text.encode('latin1')


# --- containers and histories

def _ordered_dict(decoder: _Decoder, call: Call) -> OrderedDict:
    pairs = decoder.arguments(call, 1)[0] if call.arguments else []
    items: OrderedDict = OrderedDict(pairs)
    # The state of the dict, such as `_metadata` of a state_dict, is not needed.
    items.update((key, decoder.decode(value)) for key, value in call.items.items())
    return items


def _namespace(decoder: _Decoder, call: Call) -> argparse.Namespace:
    state = decoder.decode(call.state or {})
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise TypeError('a Namespace without names')
    return argparse.Namespace(**state)


def _counter(decoder: _Decoder, call: Call) -> Counter:
    counts = decoder.arguments(call, 1)[0] if call.arguments else {}
    if not isinstance(counts, dict) or not all(isinstance(count, int) for count in counts.values()):
        raise TypeError('a Counter without counts')
    return Counter(counts)


def _set(decoder: _Decoder, call: Call) -> set:
    values = decoder.arguments(call, 1)[0] if call.arguments else []
    if not all(value is None or isinstance(value, (str, bytes, int, float)) for value in values):
        raise TypeError('a set of values that are not plain')
    return set(values)


def _slice(decoder: _Decoder, call: Call) -> slice:
    values = decoder.arguments(call, 1) + [decoder.decode(value) for value in call.arguments[1:3]]
    if not all(value is None or isinstance(value, int) for value in values):
        raise TypeError('a slice without numbers')
    return slice(*values)


def _history(decoder: _Decoder, call: Call) -> History:
    """Decodes a HistoryBuffer of MMEngine. The names of methods in its state are ignored."""
    if call.arguments or not isinstance(call.state, dict):
        raise TypeError('a HistoryBuffer without state')
    values, counts, max_length = (decoder.decode(call.state.get(key))
                                  for key in ('_log_history', '_count_history', 'max_length'))
    if (not isinstance(values, Tensor) or not isinstance(counts, Tensor) or values.ndim != 1
            or values.shape != counts.shape or not _is_size(max_length) or len(values) > max_length):  # type: ignore[operator]  # an int by now
        raise ValueError('a HistoryBuffer whose values and counts do not belong together')
    return History(values.numpy(), counts.numpy(), max_length)  # type: ignore[arg-type]  # an int by now


_TENSORS = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_tensor_v3')
_DECODERS: dict[str, Callable[[_Decoder, Call], object]] = {
    **dict.fromkeys(_TENSORS, _tensor),
    'torch._utils._rebuild_parameter': _first_argument,
    'torch._utils._rebuild_parameter_with_state': _first_argument,
    'torch._tensor._rebuild_from_type_v2': _from_type,
    'torch.Size': lambda decoder, call: tuple(decoder.arguments(call, 1)[0]),
    'torch.device': lambda decoder, call: ':'.join(str(decoder.decode(value)) for value in call.arguments),
    'numpy.core.multiarray._reconstruct': _array,
    'numpy.core.numeric._frombuffer': _array_from_buffer,
    'numpy.core.multiarray.scalar': _scalar,
    '_codecs.encode': _encoded,
    'builtins.bytearray': lambda decoder, call: decoder.arguments(call, 1)[0] if call.arguments else b'',
    'builtins.set': _set,
    'builtins.frozenset': lambda decoder, call: frozenset(_set(decoder, call)),
    'builtins.slice': _slice,
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _counter,
    'collections.defaultdict': lambda decoder, call: {key: decoder.decode(value) for key, value in call.items.items()},
    'argparse.Namespace': _namespace,
    'mmengine.logging.history_buffer.HistoryBuffer': _history,
}
