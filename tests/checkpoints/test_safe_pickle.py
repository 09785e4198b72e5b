"""Pickles are read as data: arrays and tensors as they were written, anything else is refused and not executed."""
import collections
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import mae_backbone
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.checkpoints.state_dicts import read_weights


def stored(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / 'arrays.pkl'
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class _Runs:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


@pytest.mark.parametrize(('content', 'says'), [
    (_Runs(os.system, 'touch ran'), r'names code to run \((posix|nt)\.system\)'),
    (_Runs(eval, '1'), r'builtin(s|__)\.eval'), (_Runs(getattr, {}, 'pop'), r'builtin(s|__)\.getattr'),
    (collections.UserDict(), r'UserDict'), (torch.zeros(2), r'is damaged'), (Path('a'), r'pathlib'),
    (_Runs(__import__('codecs').encode, b'a', 'zlib'), r'_codecs\.encode as zlib')])
@pytest.mark.parametrize('protocol', [2, 4])
def test_objects_are_refused_by_name_and_not_executed(content: object, says: str, protocol: int, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'bad.pkl'
    path.write_bytes(pickle.dumps({'model': {'weight': content}}, protocol=protocol))
    with pytest.raises(CheckpointError, match=says):
        read_content(path)
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('data', [b'', b'no pickle', b'\x80\x04', pickle.dumps({'a': np.zeros(9)})[:-20]])
def test_files_that_are_no_pickles_are_refused(data: bytes, tmp_path: Path):
    path = tmp_path / 'cut.pkl'
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='is not a checkpoint, or is damaged'):
        read_content(path)


def test_numeric_arrays_become_tensors(tmp_path: Path):
    arrays = {str(kind): np.arange(6, dtype=kind).reshape(2, 3) for kind in ('f2', 'f4', 'f8', 'i4', 'i8', 'u1')}
    path = tmp_path / 'arrays.pkl'
    for protocol in (0, 2, 4, 5):
        path.write_bytes(pickle.dumps(collections.OrderedDict(arrays, transposed=arrays['f4'].T), protocol=protocol))
        found = read_content(path)
        assert all(np.array_equal(found[name].numpy(), array) for name, array in arrays.items())
        assert np.array_equal(found['transposed'].numpy(), arrays['f4'].T)


def test_byte_order_of_file_is_respected(tmp_path: Path):
    for kind in ('>f4', '<f4', '>i8'):
        array = np.arange(1, 7, dtype=kind).reshape(3, 2)
        for protocol in (2, 5):
            found = read_content(stored(tmp_path, {'a': array, 'b': array[1, 1]}, protocol=protocol))
            assert found['a'].tolist() == array.tolist()
            assert found['b'] == 4


@pytest.mark.parametrize('array', [
    np.array([{}], object), np.array(['text']), np.zeros(2, [('a', 'f4')]), np.zeros(2, np.longdouble),
    np.zeros(2, complex), np.zeros(2, 'datetime64[s]')])
@pytest.mark.parametrize('protocol', [2, 5])
def test_arrays_without_numbers_are_refused(array: np.ndarray, protocol: int, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r'names code to run \(an array of'):
        read_content(stored(tmp_path, {'a': array}, protocol=protocol))


class _Crafted:
    """An array whose state is any."""

    def __init__(self, shape: object, kind: object, content: object) -> None:
        self.state = (1, shape, kind, False, content)

    def __reduce__(self) -> tuple:
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b'b'), self.state


class _Type:
    """A type of numbers with anything beside."""

    def __init__(self, state: tuple) -> None:
        self.state = state

    def __reduce__(self) -> tuple:
        return np.dtype, ('f4', False, True), self.state


PLAIN = (3, '<', None, None, None, -1, -1, 0)


@pytest.mark.parametrize(('content', 'says'), [
    (_Crafted((2,), _Type(PLAIN), b'1234'), 'is damaged'),
    (_Crafted((1 << 60, 1 << 60), _Type(PLAIN), b''), 'is damaged'),
    (_Crafted((-1,), _Type(PLAIN), b'123'), 'is damaged'), (_Crafted('no', _Type(PLAIN), b'1234'), 'is damaged'),
    (_Crafted((1,), np.float32, b'1234'), 'an array without a dtype'),
    (_Crafted((1,), 5, b'1234'), 'an array without a dtype'),
    (_Crafted((1,), _Type(PLAIN), [1, 2]), 'is damaged'),
    (_Crafted((1,), _Type((3, '<', None, ('a',), {'a': (np.dtype('f4'), 0)}, 8, 8, 63)), b'1234'),
     'an array of a dtype with fields')])
def test_crafted_array_states_are_refused(content: object, says: str, tmp_path: Path):
    """NumPy would: with such states its own arrays read whatever is at an address."""
    whole = _Crafted((1,), _Type(PLAIN), np.float32([7]).tobytes())
    assert read_content(stored(tmp_path, {'a': whole}))['a'].tolist() == [7]
    with pytest.raises(CheckpointError, match=says):
        read_content(stored(tmp_path, {'a': content}))


def test_recursive_objects_are_refused(tmp_path: Path):
    around = {}
    around['around'] = around
    with pytest.raises(CheckpointError, match='is damaged'):
        read_content(stored(tmp_path, around))


# ---- archives of torch with crafted pickles

def text(value: str) -> bytes:
    return b'X' + len(value).to_bytes(4, 'little') + value.encode()


def array_of_objects(address: int = 8) -> bytes:
    """numpy.ndarray(dtype='O') made of bytes: each item would be a pointer to any address."""
    content = address.to_bytes(8, 'little').decode('latin1')
    return (b'cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\n(' + text('O') + b'tRc_codecs\nencode\n(' + text(content)
            + text('latin1') + b'tRtR')


def archive(path: Path, meta: bytes) -> Path:
    """A run whose `meta` holds a value, given as a pickle."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', b'\x80\x02}' + text('state_dict') + b'}s' + text('meta') + b'}'
                      + text('value') + meta + b'ss.')
        file.writestr('archive/version', '3\n')
    return path


@pytest.mark.parametrize(('value', 'says'), [
    (array_of_objects(), r'names code to run \(numpy\.ndarray\)'),
    (b'c__builtin__\ngetattr\n(' + array_of_objects() + text('x') + b'tR', r'names code to run \(builtins\.getattr\)'),
    (b'cmmengine.logging.history_buffer\nHistoryBuffer\n(' + array_of_objects() * 2 + b'K\x01tR', 'HistoryBuffer'),
    (b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85' + text('b') + b'tR(K\x01K\x01\x85'
     b'cnumpy\ndtype\n(' + text('O') + b'tR\x89' + text('12345678') + b'tb', r'an array of .O'),
    (b'cnumpy\ndtype\n(' + text('f4') + b'tR', r'numpy\.dtype'), (b'cbuiltins\neval\n', r'builtins\.eval'),
    (b'\x82\x01', 'opcode EXT1')], ids=range(7))
def test_arrays_of_objects_are_refused_by_every_reader(value: bytes, says: str, tmp_path: Path):
    path = archive(tmp_path / 'run.pth', value)
    for read in (read_run, read_weights):
        with pytest.raises(CheckpointError, match=says):
            read(path)


def test_archives_that_hold_more_than_the_file_are_refused(tmp_path: Path):
    path = tmp_path / 'compressed.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('archive/data.pkl', b'\x80\x02}.')
        file.writestr('archive/data/0', bytes(10**7))
    with pytest.raises(CheckpointError, match='is compressed'):
        read_content(path)


@pytest.mark.parametrize(('size', 'stride', 'says'), [
    ((3,), (1,), None), ((2, 3), (3, 1), 'in a storage of 4 elements'), ((2,), (-1,), 'strides'),
    ((1 << 40,), (0,), 'repeats 4 elements'), ((4,), (1, 1), 'is damaged'),
    ((1 << 62, 1 << 62), (1, 1), 'in a storage')])
def test_a_tensor_stays_within_its_storage(size: tuple, stride: tuple, says: str | None, tmp_path: Path):
    class Crafted:
        def __reduce__(self) -> tuple:
            storage = torch.arange(4.0).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, size, stride, False, collections.OrderedDict())

    path = tmp_path / 'run.pth'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch deprecates typed storages
        torch.save({'weight': Crafted()}, path)
    if says is None:
        assert read_weights(path)['weight'].tolist() == [0, 1, 2]
        return
    with pytest.raises(CheckpointError, match=says):
        read_weights(path)


@pytest.mark.parametrize(('content', 'reason'), [
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n', 'Git LFS: fetch its content with `git lfs'),
    (b'<!DOCTYPE html><html>', 'a web page'), (b'<HTML>not found', 'a web page'),
    (b'PK\3\4' + b'\x80' * 80, 'a zip archive without its end')])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_a_download_left_in_place_of_a_checkpoint_is_named(content, reason, suffix, tmp_path):
    (tmp_path / f'a{suffix}').write_bytes(content)
    with pytest.raises(CheckpointError, match='is not a checkpoint, or is damaged or cut off') as refused:
        read_content(tmp_path / f'a{suffix}')
    assert reason in str(refused.value) or (suffix, content[:2]) == ('.safetensors', b'PK')


@pytest.mark.parametrize('name', ['a.onnx', 'a.pt2'])
def test_an_exported_file_in_place_of_a_checkpoint_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b'x')
    with pytest.raises(CheckpointError, match='is an exported file: pass the checkpoint that it was exported from'):
        read_content(tmp_path / name)
    with pytest.raises(ValueError, match='is an exported file: pass the checkpoint that it was exported from'):
        mae_backbone.export(tmp_path / name, tmp_path / 'b.onnx')
