"""Random damage to files: to their bytes, to structured content, and to archives with correct checksums."""
import copy
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

# Fields of 1, 2, 4 and 8 bytes at their limits, in both byte orders.
_EXTREMES = [struct.pack(order + code, value) for order in '<>' for code, value in (
    ('B', 0), ('B', 255), ('H', 0), ('H', 0xffff), ('H', 0x7fff), ('I', 0), ('I', 0xffffffff), ('I', 0x7fffffff),
    ('I', 0x10000), ('Q', 0), ('Q', 2**64 - 1), ('Q', 2**63 - 1), ('Q', 2**32))]
_VALUES: list = [None, True, False, 0, 1, -1, 0.5, -0.0, 255, 256, 2**31, 2**32, -2**31, 2**53, 2**63, -2**63, 2**64,
                 10**30, 1e308, -1e308, 1e-308, float('nan'), float('inf'), float('-inf'), '', ' ', 'a', '0', '\0',
                 '\x1b[2J', 'a\nb', '\ud800', '../../etc/passwd', '/dev/zero', 'x' * 5000, [], {}, [[]], [None],
                 {'': 0}]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """A copy with 1 to 6 edits: flipped bits, extreme fields, removed, repeated, inserted, swapped and cut blocks.

    Edits are more frequent near the start, where the headers are.
    """
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        if changed:
            rng.choice(_BYTE_EDITS)(changed, int(len(changed) * rng.random() ** rng.choice([1, 2, 5])), rng)
    return bytes(changed)


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _replace(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.randrange(256)


def _set_field(data: bytearray, at: int, rng: random.Random) -> None:
    field = rng.choice(_EXTREMES)
    data[at:at + len(field)] = field


def _change_number(data: bytearray, at: int, rng: random.Random) -> None:
    """Adds a small number to a field of two bytes."""
    order = rng.choice(['little', 'big'])
    number = int.from_bytes(data[at:at + 2], order) + rng.choice([-2, -1, 1, 2, 16, 256])
    data[at:at + 2] = (number % 2**16).to_bytes(2, order)


def _remove(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at:at + rng.choice([1, 2, 4, 16, 200])]


def _repeat(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = data[at:at + rng.choice([1, 4, 16, 200])] * rng.choice([1, 1, 2, 50])


def _insert(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.choice([bytes(rng.choice([1, 4, 64])), rng.randbytes(rng.choice([1, 4, 64])), b'\xff' * 8])


def _swap(data: bytearray, at: int, rng: random.Random) -> None:
    size, other = rng.choice([2, 4, 12, 40]), rng.randrange(len(data))
    data[at:at + size], data[other:other + size] = data[other:other + size], data[at:at + size]


def _cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[rng.randrange(len(data)):]


def _overwrite(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice([4, 16, 64])
    data[at:at + size] = rng.choice([bytes(size), b'\xff' * size, rng.randbytes(size)])


_BYTE_EDITS: list[Callable[[bytearray, int, random.Random], None]] = [
    _flip, _flip, _replace, _set_field, _set_field, _set_field, _change_number, _remove, _repeat, _insert, _swap, _cut,
    _overwrite]


def mutate_png(data: bytes, rng: random.Random) -> bytes:
    """A PNG with mutated bytes, every second one with correct checksums, so that its content is decoded."""
    data = mutate_bytes(data, rng)
    if rng.random() < 0.5 or not data.startswith(b'\x89PNG'):
        return data
    chunks, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4], 'big')
        chunks += [data[at:end], zlib.crc32(data[at + 4:end]).to_bytes(4, 'big')]
        at = end + 4
    return b''.join(chunks)


def mutate_inside(data: bytes, rng: random.Random) -> bytes:
    """A zip archive with one or two members mutated and correct checksums, most often its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, 'w') as target:
        names = source.namelist()
        main = [name for name in names if name.endswith('data.pkl')]
        chosen = {rng.choice(main or names), rng.choice([*main * 5, *names])}
        for name in names:
            content = source.read(name)
            if name in chosen:
                content = mutate_bytes(content, rng)
            if name not in chosen or rng.random() < 0.98:
                target.writestr(name, content, rng.choice([zipfile.ZIP_STORED] * 30 + [zipfile.ZIP_DEFLATED]))
    return buffer.getvalue()


def mutate_content(content: object, rng: random.Random, *,
                   leaf: Callable[[object, random.Random], object] | None = None) -> object:
    """A deep copy of nested dicts and lists with 1 to 4 edits.

    An edit replaces a value, removes, repeats or renames an entry, copies a value from elsewhere, or nests deeply.

    Args:
        content: dicts, lists, tuples and any values in them.
        rng: random numbers.
        leaf: mutates a value that is no dict or list, in place of the general values.
    """
    changed = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        places = list(_places(changed))
        if not places:
            break
        node, key = _pick(places, rng)
        _edit(node, key, places, rng, leaf)
    return changed


def _places(root: object) -> list[tuple]:
    """(container, key) of every value in dicts and lists; tuples are skipped, since they cannot be changed."""
    places, nodes = [], [root]
    while nodes and len(places) < 20_000:
        node = nodes.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            nodes.append(node[key])
    return places


def _pick(places: list[tuple], rng: random.Random) -> tuple:
    """A place, so that each name of a key is equally likely, however often it occurs."""
    by_name: dict = {}
    for node, key in places:
        by_name.setdefault(key if isinstance(node, dict) else '[]', []).append((node, key))
    return rng.choice(by_name[rng.choice(list(by_name))])


def _edit(node: dict | list, key: object, places: list[tuple], rng: random.Random,
          leaf: Callable[[object, random.Random], object] | None) -> None:
    how, value = rng.randrange(10), node[key]  # type: ignore[call-overload,index]
    if how <= 4:
        is_leaf = leaf is not None and not isinstance(value, (dict, list)) and rng.random() < 0.7
        node[key] = leaf(value, rng) if is_leaf else _new_value(value, rng)  # type: ignore[misc,index]
    elif how == 5:
        del node[key]  # type: ignore[arg-type]
    elif how == 6:
        other, place = rng.choice(places)
        if (place in other) if isinstance(other, dict) else (place < len(other)):
            node[key] = copy.deepcopy(other[place])  # type: ignore[index]
    elif how == 7 and isinstance(node, dict):
        node[rng.choice(['', 'x', str(key).upper(), f'{key} '])] = node.pop(key)
    elif how == 7 or (how == 8 and isinstance(node, list)):
        node.insert(rng.randrange(len(node) + 1), copy.deepcopy(value))  # type: ignore[union-attr]
    elif how == 8:
        node[key] = [value]  # type: ignore[index]
    else:
        deep: object = value
        for _ in range(rng.choice([2, 50, 300])):
            deep = [deep] if rng.random() < 0.5 else {'a': deep}
        node[key] = deep  # type: ignore[index]


def _new_value(value: object, rng: random.Random) -> object:
    """Another value, or a related one."""
    if isinstance(value, bool) or rng.random() < 0.5:
        return copy.deepcopy(rng.choice(_VALUES))
    if isinstance(value, (int, float)):
        return rng.choice([-value, value + 1, value - 1, value * 1000, value / 7, str(value), [value], float(value)])
    if isinstance(value, str):
        return rng.choice([value[:-1], value + 'x', value.upper(), value * 3, '\u202e' + value, value[::-1]])
    if isinstance(value, list):
        return rng.choice([value[:-1], value[1:], value[::-1], value * 2, [*value, None], tuple(value), len(value)])
    return copy.deepcopy(rng.choice(_VALUES))
