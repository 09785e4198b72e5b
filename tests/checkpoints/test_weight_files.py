"""Folders, indices and safetensors of unknown origin are read in full or refused with the reason."""
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.safetensors_file import open_safetensors
from mae_backbone.checkpoints.weight_files import open_weights, read_json

TENSORS = {'a': torch.randn(3, 5), 'b': torch.randn(7).half(), 'c': torch.tensor([True, False]),
           'd': torch.randn(2, 2).bfloat16(), 'e': torch.arange(4), 'f': torch.zeros(0, 3)}


def test_safetensors_are_read_tensor_by_tensor(tmp_path: Path):
    save_file(TENSORS, tmp_path / 'a.safetensors', metadata={'format': 'pt'})
    stored, metadata = open_safetensors(tmp_path / 'a.safetensors')
    assert metadata == {'format': 'pt'}
    for name, value in TENSORS.items():
        assert stored[name].dtype == value.dtype
        assert torch.equal(stored[name](), value)
        assert stored[name].is_finite()
    into = torch.empty(3, 5)
    stored['a'].read_into(into)
    assert torch.equal(into, TENSORS['a'])


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_a_bad_value_anywhere_is_found(tmp_path: Path, bad: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('mae_backbone.checkpoints.safetensors_file._CHUNK', 4)
    for place in (0, 3, 4, 9):
        tensor = torch.ones(10)
        tensor[place] = bad
        save_file({'a': tensor, 'large': torch.full((10,), 3e38)}, tmp_path / 'a.safetensors')
        stored, _ = open_safetensors(tmp_path / 'a.safetensors')
        assert not stored['a'].is_finite()
        assert stored['large'].is_finite()  # its sum is not


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path):
    path = tmp_path / 'a.safetensors'
    save_file(TENSORS, path)
    stored, _ = open_safetensors(path)
    path.write_bytes(path.read_bytes()[:-40])
    last = max(stored.values(), key=lambda tensor: tensor.offset)
    with pytest.raises(EOFError, match='cut off while it was read'):
        last()


def header(entries: dict | bytes, data: int = 64) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack('<Q', len(text)) + text + bytes(data)


@pytest.mark.parametrize('content', [
    header({'a': dict(dtype='F32', shape=[2**70], data_offsets=[0, 64])}),
    header({'a': dict(dtype='F32', shape=[0, 2**62, 8], data_offsets=[0, 0])}, data=0),
    header({'a': dict(dtype='F32', shape=[4], data_offsets=[0, 64])}),
    header({'a': dict(dtype='F32', shape=[16], data_offsets=[-5, 59])}),
    header({'a': dict(dtype='F32', shape=[16], data_offsets=[0, 64]),
            'b': dict(dtype='F32', shape=[16], data_offsets=[0, 64])}),
    header({'a': dict(dtype='F32', shape=[32], data_offsets=[0, 128])}),
    header({'a': dict(dtype='C64', shape=[8], data_offsets=[0, 64])}),
    header(b'[' * 100_000), struct.pack('<Q', 2**62) + b'{}'], ids=range(9))
def test_headers_that_declare_what_is_not_there_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r'a\.safetensors is not a checkpoint, or is damaged'):
        open_weights(path)


def shards(folder: Path) -> Path:
    """A folder with two files and their index."""
    save_file({'x.a': torch.ones(2)}, folder / 'model-1.safetensors')
    save_file({'x.b': torch.zeros(2)}, folder / 'model-2.safetensors')
    return index(folder, {'x.a': 'model-1.safetensors', 'x.b': 'model-2.safetensors'})


def index(folder: Path, files: object) -> Path:
    path = folder / 'model.safetensors.index.json'
    path.write_text(json.dumps({'weight_map': files}))
    return path


@pytest.mark.parametrize('whole', [False, True])
def test_all_files_of_an_index_are_read(tmp_path: Path, whole: bool):
    path = shards(tmp_path)
    weights = open_weights(tmp_path if whole else path).weights
    assert {name: value.tolist() for name, value in weights.items()} == {'x.a': [1, 1], 'x.b': [0, 0]}


def test_tensors_are_read_from_the_file_that_the_index_states(tmp_path: Path):
    shards(tmp_path)
    save_file({'x.a': torch.zeros(2), 'x.b': torch.zeros(2)}, tmp_path / 'model-2.safetensors')
    assert open_weights(tmp_path).weights['x.a'].tolist() == [1, 1]


@pytest.mark.parametrize(('files', 'says'), [
    ({'x.a': '../secret.safetensors'}, 'no weight_map of tensors to files next to it'),
    ({'x.a': '/etc/passwd'}, 'no weight_map of tensors to files next to it'),
    ({'x.a': '..'}, 'no weight_map'), ({'x.a': 3}, 'no weight_map'), ({}, 'no weight_map'), ([], 'no weight_map'),
    ({'x.z': 'model-1.safetensors'}, 'names 1 tensors that its files do not have, such as x.z'),
])
def test_an_index_that_does_not_fit_its_folder_is_refused(tmp_path: Path, files: object, says: str):
    shards(tmp_path)
    index(tmp_path, files)
    with pytest.raises(CheckpointError, match=says):
        open_weights(tmp_path)


def test_a_missing_file_of_an_index_is_named(tmp_path: Path):
    shards(tmp_path)
    (tmp_path / 'model-2.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match=r'model-2.safetensors does not exist'):
        open_weights(tmp_path)


@pytest.mark.parametrize('make', [
    lambda path: path.write_text('[' * 100_000), lambda path: path.write_text('[]'),
    lambda path: path.write_bytes(b'\xff\xfe'), lambda path: path.write_text('{"a": '),
    lambda path: path.write_text('{"a": "' + 'x' * (1 << 24) + '"}')], ids=range(5))
def test_json_that_is_no_object_is_refused(tmp_path: Path, make: Callable[[Path], object]):
    make(tmp_path / 'config.json')
    with pytest.raises(CheckpointError, match=r'config\.json (cannot be read as JSON|is not a JSON object)'):
        read_json(tmp_path / 'config.json')
    save_file({'a': torch.ones(2)}, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match='copy the'):
        open_weights(tmp_path / 'model.safetensors')  # the config belongs to it


@pytest.mark.parametrize('config', [
    dict(num_attention_heads='12'), dict(num_attention_heads=-3, hidden_act=5), dict(architecture=3),
    dict(architecture='vit_base', model_args=[1], pretrained_cfg=dict(mean='x', std=[None]), global_pool={}),
    dict(num_attention_heads=2.5, layer_norm_eps='tiny')], ids=range(5))
def test_values_of_other_types_in_a_config_are_ignored(tmp_path: Path, config: dict):
    from mae_backbone.checkpoints.facts import facts_of
    facts = facts_of({}, config, dict(image_mean=['a'], image_std=3))
    assert facts.mean is None
    assert facts.heads in (None, 12)  # of vit_base
    assert facts.norm_eps is None


@pytest.mark.parametrize(('start', 'says'), [
    ('version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'), ('<!DOCTYPE html>', 'a web page'),
    ('<?xml version="1.0"?><Error>', 'a web page')])
@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_what_a_download_left_in_place_of_weights_is_named(tmp_path: Path, name: str, start: str, says: str):
    (tmp_path / name).write_text(start * 9)
    with pytest.raises(CheckpointError, match=says):
        open_weights(tmp_path)


@pytest.mark.parametrize('more', [dict(loss=torch.tensor(0.5)), dict(rng_state=torch.zeros(9, dtype=torch.uint8))])
@pytest.mark.parametrize('key', ['model', 'model_state_dict'])
def test_other_tensors_next_to_the_weights_do_not_hide_them(tmp_path: Path, key: str, more: dict):
    torch.save({key: {'w': torch.ones(1)}, **more}, tmp_path / 'a.pth')
    assert list(open_weights(tmp_path / 'a.pth').weights) == ['w']


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r'is a folder, and has neither model.safetensors nor .*: pass a file$'):
        open_weights(tmp_path)
    (tmp_path / 'epoch_3.pth').touch()
    with pytest.raises(FileNotFoundError, match=r'It contains epoch_3.pth: pass one of them'):
        open_weights(tmp_path)


@pytest.mark.parametrize('content', [
    {'a': {'b': {'c': {'d': {'weights': torch.ones(1)}}}}}, {'one': {'w': torch.ones(1)}, 'two': {'w': torch.ones(1)}},
    {'state_dict': {'module.w': torch.ones(1), 'w': torch.ones(1)}}], ids=range(3))
def test_unclear_contents_are_refused(tmp_path: Path, content: dict):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'holds (no names with tensors|several sets|the same tensors twice)'):
        open_weights(tmp_path / 'a.pth')
