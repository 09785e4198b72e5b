"""A published checkpoint: the same weights, what the checkpoint said about itself, and nothing of the training."""
import json
from pathlib import Path

import pytest
import torch
from helpers.encoder_files import CONFIG, save
from safetensors import SafetensorError
from safetensors.torch import save_file

from mae_backbone.checkpoints.info import info
from mae_backbone.checkpoints.publish import publish
from mae_backbone.checkpoints.published import KEY, read_checkpoint
from mae_backbone.checkpoints.reading import CheckpointError

DESCRIPTION = {'task': 'classification', 'classes': [{'id': 3, 'name': 'a|b', 'color': [1, 2, 3]}],
               'command': 'mae-backbone train /home/me/run.py --data-root /data/secret', 'results': {'top1': 12.5},
               'results_iter': 4, 'versions': {'torch': '2'}, 'pixels': {'mean': [1.0], 'std': [2.0]}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tied = torch.rand(3, 4)
    meta = dict(cfg=CONFIG + "\ndata_root = '/home/me/cells'\nload_from = 'mae.pth'\n", iter=5, epoch=0,
                mae_backbone=DESCRIPTION)
    path = tmp_path / 'iter_5.pth'
    torch.save(dict(state_dict=dict(a=tied, b=tied, c=torch.rand(4, 3).T), meta=meta, message_hub={},
                    optimizer=dict(state={0: torch.zeros(1000)})), path)
    return path


def test_weights_are_bit_for_bit_and_the_training_is_left_out(checkpoint: Path, tmp_path: Path):
    publish(checkpoint, tmp_path / 'out.safetensors')
    before, after = read_checkpoint(checkpoint), read_checkpoint(tmp_path / 'out.safetensors')
    assert set(after) == {'state_dict', 'meta'}
    assert after['state_dict'].keys() == before['state_dict'].keys()
    assert all(torch.equal(value, before['state_dict'][name]) for name, value in after['state_dict'].items())
    assert after['meta'][KEY]['classes'] == DESCRIPTION['classes']


def test_folders_of_the_machine_are_left_out_of_config_command_and_card(checkpoint: Path, tmp_path: Path):
    card = publish(checkpoint, tmp_path / 'out.safetensors').read_text()
    meta = read_checkpoint(tmp_path / 'out.safetensors')['meta']
    assert '/home' not in json.dumps(meta) + card
    assert '/data' not in json.dumps(meta) + card
    assert "data_root = 'cells'" in meta['cfg']
    assert 'run.py --data-root secret' in card
    assert 'a\\|b' in card
    assert '| top1 | 12.5 |' in card


@pytest.mark.parametrize(('start', 'license'), [('mae_pretrain_vit_base.pth', 'cc-by-nc-4.0'), ('mine.pth', 'unknown')])
def test_the_card_states_the_license_of_the_weights_that_the_training_started_from(
        checkpoint: Path, tmp_path: Path, start: str, license: str):
    content = torch.load(checkpoint, weights_only=True)
    content['meta']['cfg'] = content['meta']['cfg'].replace('mae.pth', start)
    torch.save(content, checkpoint)
    card = publish(checkpoint, tmp_path / 'out.safetensors').read_text()
    assert card.startswith(f'---\nlicense: {license}\n')
    assert ('no commercial use' in card) == (license != 'unknown')
    assert ('Not stated.' in card) == (license == 'unknown')


def test_the_page_of_a_checkpoint_names_what_is_in_it(checkpoint: Path, tmp_path: Path):
    page = str(info(checkpoint))
    for wanted in ('checkpoint of mae-backbone', 'task      classification', 'a|b (3)', 'top1 12.5', 'iteration 5',
                   '(validation after 4 iterations)', 'also has  optimizer', 'mae_backbone.MAEPretrainer'):
        assert wanted in page
    publish(checkpoint, tmp_path / 'out.safetensors')
    page = str(info(tmp_path / 'out.safetensors'))
    assert page.startswith(f'{tmp_path}/out.safetensors: published checkpoint of mae-backbone')
    assert 'optimizer' not in page


def test_the_page_of_public_weights_names_their_layout(tmp_path: Path):
    page = info(save(tmp_path / 'public.pth', prefix=''))
    assert list(page.vits) == ['']
    assert page.num_parameters == sum(page.parts.values())
    assert page.config == ''
    assert 'the file does not say how its model is built' in str(page)


def test_weights_that_are_not_finite_are_named(tmp_path: Path):
    torch.save(dict(a=torch.tensor([1.0, float('nan')])), tmp_path / 'a.pth')
    assert info(tmp_path / 'a.pth').not_finite == ['a']
    assert 'WARNING   1 tensors are NaN or infinite: a' in str(info(tmp_path / 'a.pth'))


def test_what_cannot_be_published_is_refused_and_nothing_is_written(checkpoint: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r'ends in \.safetensors'):
        publish(checkpoint, tmp_path / 'out.pth')
    with pytest.raises(CheckpointError, match='has no config with a model'):
        publish(save(tmp_path / 'public.pth'), tmp_path / 'out.safetensors')
    content = torch.load(checkpoint, weights_only=False)  # written by this test; its history is no tensor
    content['state_dict']['a'] = torch.full((2,), float('inf'))
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match='NaN or infinite'):
        publish(checkpoint, tmp_path / 'out.safetensors')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['iter_5.pth', 'public.pth']


def test_a_folder_that_cannot_be_written_to_is_named(checkpoint: Path, tmp_path: Path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r'the folder .*nowhere does not exist: create it'):
        publish(checkpoint, tmp_path / 'nowhere' / 'a.safetensors')

    def fail(*_: object) -> None:
        raise SafetensorError('I/O error: No space left on device')
    monkeypatch.setattr('safetensors.torch.save_file', fail)
    with pytest.raises(OSError, match=r'a\.safetensors cannot be written .*No space left on device'):
        publish(checkpoint, tmp_path / 'a.safetensors')
    assert [path.name for path in tmp_path.iterdir()] == ['iter_5.pth']


def test_a_model_card_replaces_only_an_earlier_one(checkpoint: Path, tmp_path: Path):
    (tmp_path / 'README.md').write_text('notes of a user')
    with pytest.raises(FileExistsError, match=r'README\.md would replace another file: choose another name'):
        publish(checkpoint, tmp_path / 'README.safetensors')
    assert not (tmp_path / 'README.safetensors').exists()
    assert (tmp_path / 'README.md').read_text() == 'notes of a user'
    for _ in range(2):
        publish(checkpoint, tmp_path / 'cells.safetensors')


@pytest.mark.parametrize('metadata', ['[]', '{', 'null', '[' * 100_000])
def test_damaged_metadata_are_refused(metadata: str, tmp_path: Path):
    save_file({'a': torch.zeros(2)}, tmp_path / 'a.safetensors', {KEY: metadata})
    with pytest.raises(CheckpointError, match=r'a\.safetensors is not a checkpoint'):
        read_checkpoint(tmp_path / 'a.safetensors')


def test_values_of_other_types_in_a_file_do_not_break_the_page(tmp_path: Path):
    meta = {'cfg': 3, 'iter': 'x', 'mae_backbone': {'task': 3, 'classes': [1, {'name': 2}], 'results': {'a': 'b'},
                                                    'versions': 7, 'pixels': [], 'image_size': 3, 'results_iter': 'x'}}
    torch.save(dict(state_dict={'a': torch.zeros(1)}, meta=meta), tmp_path / 'a.pth')
    assert 'weights   1 parameters' in str(info(tmp_path / 'a.pth'))
    for value in (3, 'text', None, {'classes': 'text'}, {'classes': 3, 'results': None}):
        torch.save(dict(state_dict={'a': torch.zeros(1)}, meta=meta | {'mae_backbone': value}), tmp_path / 'a.pth')
        assert 'weights   1 parameters' in str(info(tmp_path / 'a.pth'))


def test_names_in_a_file_do_not_control_the_terminal(tmp_path: Path):
    meta = {'mae_backbone': {'classes': [{'name': '\x1b[31mred', 'id': 0}], 'command': 'a\rb'}}
    torch.save(dict(state_dict={'a\x1b[2J': torch.zeros(1)}, meta=meta), tmp_path / 'a.pth')
    assert '\x1b' not in str(info(tmp_path / 'a.pth'))
    assert '\r' not in str(info(tmp_path / 'a.pth'))
