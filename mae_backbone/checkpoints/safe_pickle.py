"""Pickles of NumPy arrays, as detectron2's model zoo has them, read without running code of theirs."""
import pickle
import re
from collections import OrderedDict
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor


class NotAnArrayError(UnpicklingError):
    """Something in a pickle that is no array, by its name."""


def load_arrays(file: BinaryIO) -> object:
    """Dicts of names and numeric arrays -> the same with tensors; other plain values stay as they are.

    Nothing of NumPy is handed to the pickle, as its arrays and types take what they are told to be, addresses too.

    Raises:
        NotAnArrayError: the pickle names something else.
        Exception: anything, where it is damaged.
    """
    return _tensors(_Unpickler(file).load())


class _Type:
    """Stands in for `numpy.dtype`: what a pickle says of it."""

    def __init__(self, name: str, *_: object) -> None:
        if not isinstance(name, str) or not re.fullmatch('f[248]|[iu][1248]|b1', name):
            raise NotAnArrayError(f'an array of {name!r:.60}')
        self.name, self.order = name, '|'

    def __setstate__(self, state: tuple) -> None:
        _, self.order, *fields = state[:5]
        if self.order not in ('<', '>', '|', '=') or any(field is not None for field in fields):
            raise NotAnArrayError('an array of a type with fields')

    def read(self, content: bytes, shape: Sequence[int], order: str) -> Tensor:
        """Raises ValueError where the bytes are not as many as the shape wants."""
        array = np.frombuffer(content, np.dtype(self.order + self.name)).reshape(shape, order=order)
        return torch.from_numpy(np.array(array, self.name, order='C'))  # in the order of bytes of this machine


class _Array:
    """Stands in for an array that is told later what it is."""

    def __init__(self, *_: object) -> None:
        self.content: Tensor | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type):
            raise NotAnArrayError('an array without a type')
        self.content = kind.read(_bytes(content), shape, 'F' if by_columns else 'C')


def _from_buffer(content: bytes, kind: _Type, shape: Sequence[int], order: str, *_: object) -> Tensor:
    """Stands in for the function by which arrays are pickled from protocol 5 on."""
    return kind.read(content, shape, order)


def _scalar(kind: _Type, content: bytes) -> Tensor:
    return kind.read(_bytes(content), (), 'C')


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, by which old pickles store bytes as text."""
    if encoding not in ('latin1', 'latin-1'):
        raise NotAnArrayError(f'_codecs.encode as {encoding}')
    return text.encode('latin1')


def _bytes(content: bytes | str) -> bytes:
    """Those of Python 2 come as text."""
    return content.encode('latin1') if isinstance(content, str) else content


# By name of NumPy 1; what a pickle of numeric arrays names.
_STAND_INS = {
    ('numpy.core.multiarray', '_reconstruct'): _Array, ('numpy.core.multiarray', 'scalar'): _scalar,
    ('numpy.core.numeric', '_frombuffer'): _from_buffer, ('numpy', 'ndarray'): 'ndarray', ('numpy', 'dtype'): _Type,
    ('_codecs', 'encode'): _encode, ('collections', 'OrderedDict'): OrderedDict}


class _Unpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, text and stand-ins, and refuses everything else before it is looked up."""

    def find_class(self, module: str, name: str) -> object:
        found = _STAND_INS.get((module.replace('numpy._core.', 'numpy.core.'), name))
        if found is None:
            raise NotAnArrayError(f'{module}.{name}')
        return found


def _tensors(content: object) -> object:
    """The same with tensors in the place of stand-ins."""
    if isinstance(content, dict):
        return {key: _tensors(value) for key, value in dict.items(content)}
    return content.content if isinstance(content, _Array) else content
