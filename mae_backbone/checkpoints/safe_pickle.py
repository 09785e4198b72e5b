"""Reads pickles as data, without importing or calling anything that is named in them.

`pickle.loads` builds any object that is named in a file. An allow-list of functions is not safe enough, because even
NumPy arrays and dtypes that are built from a crafted file can read any address in memory. This module converts a pickle
to a tree of plain values, in which `Name` stands for a named object and `Call` for a call.
`mae_backbone.checkpoints.decoding` then converts the names and calls that it allows to tensors and numbers.
"""
import mmap
import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, cast

# Limits that prevent small files from taking gigabytes of memory or hours. The checkpoint of a detector with a ViT-H
# and its optimizer has about 100,000 opcodes. An opcode of one byte may create an object of 200 bytes.
_MAX_OPCODES = 2**20
_MAX_BITS = 512        # largest number of bits of an integer
_MAX_KEY_BITS = 64     # the same for a key of a dict. Longer integers can be chosen so that all have the same hash


class UnsafePickleError(ValueError):
    """A pickle contains the name of an object that is not allowed. The message is this name."""


@dataclass(frozen=True, eq=False)
class Name:
    """Name of a class or function in a pickle, such as 'collections.OrderedDict'."""

    path: str


@dataclass(eq=False)
class Call:
    """A call, or the creation of an instance, in a pickle. `state` and `items` are set on its result."""

    function: object
    arguments: tuple
    state: object = None
    items: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PersistentId:
    """A reference to data outside the pickle, such as the storage of a tensor."""

    content: object


def load(file: IO[bytes] | mmap.mmap) -> object:
    """Reads the pickle that begins at the current position of `file`.

    `file` should be a `BytesIO` or an `mmap`. A read is then limited to the size of the file, so that a wrong length in
    a damaged pickle does not allocate memory.

    Raises:
        UnsafePickleError: the pickle uses an opcode that is not allowed, such as the opcodes of the extension registry.
        Exception: any other error, if the pickle is damaged.
    """
    machine = _Machine()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # for invalid escape sequences in damaged text
        # The cast is safe, because an mmap has all methods that are used.
        for number, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], file))):
            if opcode.name == 'STOP':
                break
            if number == _MAX_OPCODES:
                raise ValueError(f'a pickle of more than {_MAX_OPCODES:,} opcodes')
            machine.execute(opcode.name, argument)
    return machine.pop()


def persistent_ids(tree: object) -> Iterator[PersistentId]:
    """Yields all references to data outside the pickle."""
    nodes, seen = [tree], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, PersistentId):
            yield node
        elif isinstance(node, Call):
            nodes += [node.arguments, node.state, node.items]
        elif isinstance(node, dict):
            nodes += node.values()
        elif isinstance(node, (list, tuple)):
            nodes += node


_MARK = object()
_Handler = Callable[['_Machine', object], object]  # the result of a handler is ignored


class _Machine:
    """Virtual machine of the pickle protocol, with its stack and memo."""

    def __init__(self) -> None:
        self.stack: list = []
        self.memo: dict = {}

    def execute(self, opcode: str, argument: object) -> None:
        """Executes one opcode of the pickle protocol."""
        if opcode in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
                raise ValueError(f'an integer of {argument.bit_length():,} bits')
            self.push(argument)
        elif opcode in _HANDLERS:
            _HANDLERS[opcode](self, argument)
        elif opcode not in ('PROTO', 'FRAME'):
            raise UnsafePickleError(f'opcode {opcode}')

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError('a mark instead of a value')
        return value

    def pop_to_mark(self) -> list:
        values: list = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def call(self, function: object, arguments: object) -> None:
        if not isinstance(arguments, tuple):
            raise TypeError('arguments of a call are not a tuple')
        self.push(Call(function, arguments))

    def set_items(self, pairs: Iterator[tuple]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Call) else target
        if not isinstance(items, dict):
            raise TypeError('items of an object that is not a dict')
        for key, value in pairs:
            items[_checked_key(key)] = value

    def extend(self, values: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError('elements of an object that is not a list')
        self.stack[-1].extend(values)

    def add(self, values: list) -> None:
        if not isinstance(self.stack[-1], set):
            raise TypeError('elements of an object that is not a set')
        self.stack[-1].update(map(_checked_key, values))

    def build(self, state: object) -> None:
        """Sets the state of the call on top of the stack."""
        if not isinstance(self.stack[-1], Call):
            raise TypeError('a state of a value that is not an object')
        self.stack[-1].state = state


def _checked_key(key: object) -> object:
    """Returns a key of a dict if it is a plain value or a tuple of plain values, otherwise raises an error.

    Nested tuples are refused because of their hash: 60 of them, each with the next one twice, have 2**60 values.
    """
    if isinstance(key, tuple):
        if any(isinstance(value, tuple) for value in key):
            raise TypeError('a key that is a tuple of tuples')
        return tuple(map(_checked_key, key))
    if isinstance(key, int) and key.bit_length() > _MAX_KEY_BITS:
        raise ValueError(f'an integer of {key.bit_length()} bits as a key')
    if key is not None and not isinstance(key, (str, bytes, int, float)):
        raise TypeError(f'a key of type {type(key).__name__}')
    return key


def _pairs(values: list) -> Iterator[tuple]:
    return zip(values[::2], values[1::2], strict=True)


def _name(machine: _Machine, module: object, name: object) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError('a name that is not text')
    machine.push(Name(f'{module}.{name}'))


def _global(machine: _Machine, argument: object) -> None:
    module, _, name = str(argument).partition(' ')  # pickletools joins module and name of GLOBAL and INST by a space
    _name(machine, module, name)


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    _name(machine, module, name)


def _reduce(machine: _Machine, _: object) -> None:
    arguments = machine.pop()
    machine.call(machine.pop(), arguments)


def _new_object_with_keywords(machine: _Machine, _: object) -> None:
    keywords, arguments = machine.pop(), machine.pop()
    if keywords:
        raise TypeError('a class that is called with keywords')
    machine.call(machine.pop(), arguments)


def _object(machine: _Machine, _: object) -> None:
    function, *arguments = machine.pop_to_mark()
    machine.call(function, tuple(arguments))


def _instance(machine: _Machine, argument: object) -> None:
    arguments = tuple(machine.pop_to_mark())
    _global(machine, argument)
    machine.call(machine.pop(), arguments)


def _item(machine: _Machine, _: object) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(iter([(key, value)]))


def _short_tuple(length: int) -> _Handler:
    def handle(machine: _Machine, _: object) -> None:
        machine.push(tuple([machine.pop() for _ in range(length)][::-1]))
    return handle


def _memoize(machine: _Machine, argument: object) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


_LITERALS = frozenset({
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING',
    'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES',
    'BINBYTES8', 'BYTEARRAY8'})

_HANDLERS: dict[str, _Handler] = {
    'NONE': lambda machine, _: machine.push(None),
    'NEWTRUE': lambda machine, _: machine.push(True),
    'NEWFALSE': lambda machine, _: machine.push(False),
    'MARK': lambda machine, _: machine.push(_MARK),
    'POP': lambda machine, _: machine.stack.pop(),
    'POP_MARK': lambda machine, _: machine.pop_to_mark(),
    'DUP': lambda machine, _: machine.push(machine.stack[-1]),
    'EMPTY_LIST': lambda machine, _: machine.push([]),
    'EMPTY_DICT': lambda machine, _: machine.push({}),
    'EMPTY_SET': lambda machine, _: machine.push(set()),
    'EMPTY_TUPLE': lambda machine, _: machine.push(()),
    'LIST': lambda machine, _: machine.push(machine.pop_to_mark()),
    'TUPLE': lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    'TUPLE1': _short_tuple(1), 'TUPLE2': _short_tuple(2), 'TUPLE3': _short_tuple(3),
    'FROZENSET': lambda machine, _: machine.push(frozenset(map(_checked_key, machine.pop_to_mark()))),
    'DICT': lambda machine, _: machine.push({_checked_key(key): value
                                             for key, value in _pairs(machine.pop_to_mark())}),
    'APPEND': lambda machine, _: machine.extend([machine.pop()]),
    'APPENDS': lambda machine, _: machine.extend(machine.pop_to_mark()),
    'ADDITEMS': lambda machine, _: machine.add(machine.pop_to_mark()),
    'SETITEM': _item,
    'SETITEMS': lambda machine, _: machine.set_items(_pairs(machine.pop_to_mark())),
    'PUT': _memoize, 'BINPUT': _memoize, 'LONG_BINPUT': _memoize, 'MEMOIZE': _memoize,
    'GET': lambda machine, argument: machine.push(machine.memo[argument]),
    'BINGET': lambda machine, argument: machine.push(machine.memo[argument]),
    'LONG_BINGET': lambda machine, argument: machine.push(machine.memo[argument]),
    'GLOBAL': _global, 'STACK_GLOBAL': _stack_global,
    'REDUCE': _reduce, 'NEWOBJ': _reduce, 'NEWOBJ_EX': _new_object_with_keywords,
    'OBJ': _object, 'INST': _instance,
    'BUILD': lambda machine, _: machine.build(machine.pop()),
    'BINPERSID': lambda machine, _: machine.push(PersistentId(machine.pop())),
    'PERSID': lambda machine, argument: machine.push(PersistentId(argument)),
}
