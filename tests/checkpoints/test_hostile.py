"""Small checkpoint files that would take gigabytes or hours are refused at once."""
import io
import json
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.run_checkpoints import run_content, torch_file
from mmengine.logging import HistoryBuffer

from mae_backbone.checkpoints import reading, safe_pickle, safetensors_file
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.checkpoints.run_files import read_run


def refused(path: Path, data: bytes, read: Callable[[Path], object] = read_content) -> str:
    path.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert time.monotonic() - start < 10
    assert path.name in str(caught.value)
    return str(caught.value)


TWICE = b''.join([b'2\x86'] * 60)  # DUP, TUPLE2: each tuple holds the one before it twice
NUMBER = 2**600


@pytest.mark.parametrize(('data', 'says'), [
    (b'\x80\x02}(' + b')' + TWICE + b'K\x01u.', 'a key that is a tuple of tuples'),
    (b'\x80\x02}(X\x01\x00\x00\x00a)' + TWICE + b'u.', 'more than 4,194,304 values'),
    (b'\x80\x02' + b']' * 1000 + b'a' * 999 + b'.', 'recursion'),
    (pickle.dumps({'a': NUMBER}), 'an integer of 601 bits'), (pickle.dumps({2**64: 1}), '65 bits as a key')])
def test_pickles_that_expand_are_refused(tmp_path: Path, data: bytes, says: str):
    assert says in refused(tmp_path / 'a.pkl', data)


def test_pickles_of_too_many_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A byte makes a set of 216 bytes."""
    monkeypatch.setattr(safe_pickle, '_MAX_OPCODES', 1000)
    assert 'more than 1,000 opcodes' in refused(tmp_path / 'a.pkl', b'\x80\x04(' + b'\x8f' * 1000 + b'l.')


@pytest.mark.parametrize('zip64', [False, True])
def test_archives_of_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zip64: bool):
    torch.save({str(index): torch.zeros(1) for index in range(20)}, tmp_path / 'a.pth')
    data = (tmp_path / 'a.pth').read_bytes()
    end = data.rindex(b'PK\5\6')
    size = int.from_bytes(data[end + 12:end + 16], 'little')
    if zip64:
        data = (data[:end] + b'PK\6\6' + bytes(36) + size.to_bytes(8, 'little') + bytes(8) + data[end:end + 12]
                + b'\xff' * 4 + data[end + 16:])
    reading.check_directory(io.BytesIO(data))
    monkeypatch.setattr(reading, '_MAX_DIRECTORY', size)
    reading.check_directory(io.BytesIO(data))
    monkeypatch.setattr(reading, '_MAX_DIRECTORY', size - 1)
    assert 'an archive with a directory of' in refused(tmp_path / 'a.pth', data)


def test_arrays_and_tensors_that_repeat_their_data_are_refused(tmp_path: Path):
    data = np.zeros(2**20, np.uint8)
    dumped = pickle.dumps([data] * 2, protocol=2)
    assert len(read(tmp_path, dumped)) == 2
    content = b'\0' * 2**20
    # Each array has a dtype, a shape and a state of its own, and the same bytes as its content.
    one = (b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I1048576\ntcnumpy\ndtype\n'
           b'(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\nh\x01tb')
    start = b'\x80\x02T' + struct.pack('<i', len(content)) + content + b'q\x010('
    assert 'that repeat 1,048,576 bytes of data' in refused(tmp_path / 'a.pkl', start + one * 150 + b'l.')
    views = {str(i): torch.zeros(2**20, dtype=torch.bool)[:] for i in range(3)}
    assert len(read(tmp_path, torch_file(views))) == 3
    shared = torch.zeros(2**20, dtype=torch.bool)
    assert 'that repeat' in refused(tmp_path / 'a.pth', torch_file({str(i): shared[:] for i in range(150)}))
    expanded = {str(i): torch.zeros(1).expand(2**20) for i in range(40)}
    assert 'that repeat' in refused(tmp_path / 'a.pth', torch_file(expanded))


def read(folder: Path, data: bytes) -> list | dict:
    (folder / 'a.bin').write_bytes(data)
    return read_content(folder / 'a.bin')


@pytest.mark.parametrize(('dtype', 'shape', 'data'), [('F4', [2], b'\0'), ('F8_E8M0', [2], b'\0\xff'),
                                                      ('C64', [1], b'\0' * 8), ('U64', [1], b'\0' * 8)])
def test_safetensors_of_other_dtypes_are_refused(tmp_path: Path, dtype: str, shape: list[int], data: bytes):
    header = json.dumps({'a': dict(dtype=dtype, shape=shape, data_offsets=[0, len(data)])}).encode()
    says = refused(tmp_path / 'a.safetensors', len(header).to_bytes(8, 'little') + header + data)
    assert 'dtype' in says


def test_safetensors_with_too_many_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(safetensors_file, '_MAX_TENSORS', 3)
    header = json.dumps({str(i): dict(dtype='U8', shape=[0], data_offsets=[0, 0]) for i in range(4)}).encode()
    assert '4 tensors' in refused(tmp_path / 'a.safetensors', len(header).to_bytes(8, 'little') + header)


@pytest.mark.parametrize(('part', 'change'), [
    ('message_hub', lambda run: run.update(message_hub=torch.zeros(3))),
    ('message_hub.runtime_info', lambda run: run['message_hub'].pop('runtime_info')),
    ('resumed_keys.train/loss', lambda run: run['message_hub']['resumed_keys'].update({'train/loss': 3})),
    ('log_scalars.train/loss', lambda run: run['message_hub']['log_scalars'].update({'train/loss': [1.0]})),
    ('runtime_info.data', lambda run: run['message_hub']['runtime_info'].update(data={'seed': 'x'})),
    ('runtime_info.seeds', lambda run: run['message_hub']['runtime_info'].update(seeds={'items': -1})),
    ('meta.seed', lambda run: run['meta'].update(seed='a')), ('meta.seed', lambda run: run['meta'].update(seed=2**40)),
    ('meta.iter', lambda run: run['meta'].update(iter=10**18)),
    ('meta.epoch', lambda run: run['meta'].update(epoch=True)),
    ('meta.dataset_meta', lambda run: run['meta'].update(dataset_meta=[1])),
    ('meta.dataset_meta.classes', lambda run: run['meta']['dataset_meta'].update(classes=[3])),
    ('param_schedulers', lambda run: run['param_schedulers'][0].update(last_step='x')),
    ('param_schedulers', lambda run: run['param_schedulers'][0].update(last_step=-2)),
    ('param_schedulers', lambda run: run['param_schedulers'][0].update(_last_value=3)),
    ('param_schedulers', lambda run: run['param_schedulers'][0].update(gamma=torch.zeros(2))),
    ('param_schedulers', lambda run: run['param_schedulers'].append(3))])
def test_parts_of_a_run_of_another_type_are_refused_by_name(tmp_path: Path, part: str, change: Callable[[dict], None]):
    run = run_content()
    change(run)
    assert f'{part} not as MMEngine writes it' in refused(tmp_path / 'run.pth', torch_file(run), read_run)


def test_history_with_another_number_of_values_is_refused(tmp_path: Path):
    run, history = run_content(), HistoryBuffer()
    history._log_history, history._count_history = np.zeros(3), np.zeros(2)
    run['message_hub']['log_scalars']['train/loss'] = history
    assert 'HistoryBuffer' in refused(tmp_path / 'run.pth', torch_file(run), read_run)


def test_control_characters_of_names_are_escaped(tmp_path: Path):
    data = torch_file({'state_dict': {'\x1b[2J': 3}, 'meta': {}})
    message = refused(tmp_path / 'run.pth', data, read_run)
    assert '\x1b' not in message
    assert r'\x1b[2J' in message


def test_run_with_an_empty_history_is_read(tmp_path: Path):
    """As published files have it."""
    (tmp_path / 'run.pth').write_bytes(torch_file(run_content() | dict(message_hub={})))
    assert read_run(tmp_path / 'run.pth')['message_hub'] == {}
