"""Encoders: found by file, run or word; their architecture is that of their weights."""
from pathlib import Path

import pytest
import torch
from helpers.encoder_files import CONFIG, save

from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.core.vit import ViT
from mae_backbone.transfer.encoders import (
    config_in,
    file_fingerprint,
    find_encoders,
    last_of_runs,
    parse_config,
    read_architecture,
    runs_of,
)


def test_the_checkpoints_of_a_run_come_in_the_order_of_their_iterations(tmp_path):
    for number in (200, 1000, 50):
        save(tmp_path / 'run' / f'iter_{number}.pth')
    (tmp_path / 'run' / 'interrupted.pth').touch()
    found = find_encoders([str(tmp_path / 'run')], ['random', str(save(tmp_path / 'other.pth'))])
    assert [(encoder.name, encoder.step, encoder.unit, encoder.reference) for encoder in found] == [
        ('iter_50', 50, 'iter', False), ('iter_200', 200, 'iter', False), ('iter_1000', 1000, 'iter', False),
        ('random', None, '', True), ('other', None, '', True)]
    assert found[3].checkpoint is None


def test_names_have_as_many_folders_as_tell_them_apart(tmp_path):
    files = [save(tmp_path / run / 'epoch_1.pth') for run in 'ab']
    assert [encoder.name for encoder in find_encoders([str(file) for file in files], [])] == ['a/epoch_1', 'b/epoch_1']
    with pytest.raises(ValueError, match='given twice'):
        find_encoders([str(files[0])], [str(files[0])])


def test_only_the_same_file_is_given_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ('mae.v1', 'mae.v2', 'mae.pth', 'mae.safetensors', 'mae')
    for name in names:
        Path(name).touch()
    assert [encoder.name for encoder in find_encoders(names[:4], [])] == ['mae.v1', 'mae.v2', 'mae', 'mae.safetensors']
    assert len({encoder.name for encoder in find_encoders(names, [])}) == len(names)
    with pytest.raises(ValueError, match='given twice'):
        find_encoders(['mae.pth'], [str(tmp_path / 'mae.pth')])


def test_a_known_path_keeps_its_name(tmp_path):
    one, two = (save(tmp_path / run / 'epoch_1.pth') for run in 'ab')
    assert [encoder.name for encoder in find_encoders([str(one)], [str(two)], {one.resolve(): 'epoch_1'})] == [
        'epoch_1', 'b/epoch_1']


def test_the_last_checkpoint_stands_for_its_run_alone(tmp_path):
    files = [save(tmp_path / name) for name in ('a/epoch_2.pth', 'a/epoch_1.pth', 'b/epoch_1.pth', 'b/iter_5.pth',
                                                'c/mae.pth', 'd/mae.pth')]
    found = find_encoders([str(file) for file in files], ['random'])
    assert [encoder.name for encoder in last_of_runs(found)] == ['a/epoch_2', 'b/epoch_1', 'b/iter_5', 'c/mae',
                                                                 'd/mae', 'random']
    assert {name: [encoder.step for encoder in run] for name, run in runs_of(found, 'epoch').items()} == {
        'a': [2, 1], 'b': [1]}
    assert list(runs_of(found, 'iter')) == ['b']


@pytest.mark.parametrize(('name', 'says'), [
    ('random', 'random weights go to --against'), ('none.pth', 'check the path'),
    ('.', r'has no checkpoints epoch_N\.pth')])
def test_what_is_no_checkpoint_is_said(tmp_path, monkeypatch, name: str, says: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        find_encoders([name], [])


def test_an_architecture_comes_from_the_weights_and_the_config_in_the_file(tmp_path):
    found = read_architecture(save(tmp_path / 'a.pth', config=CONFIG))
    assert found[:7] == (None, 16, 2, 4, 4, 16, 3)
    assert (found.mean, found.std) == ((1.0, 2, 3), (4.0, 5, 6))
    assert not Path('ran').exists()
    ViT(**found.backbone).load_state_dict({name.removeprefix('mae.encoder.'): value for name, value in torch.load(
        tmp_path / 'a.pth', weights_only=True)['state_dict'].items()})


def test_without_a_config_the_heads_are_a_guess_that_is_logged(tmp_path, caplog):
    assert read_architecture(save(tmp_path / 'a.pth')).heads == 1
    assert 'does not say how many heads' in caplog.text


def test_the_architectures_of_the_papers_are_known_by_their_size(tmp_path):
    vit = ViT('tiny', patch_size=16)
    torch.save(dict(model=vit.state_dict()), tmp_path / 'public.pth')
    found = read_architecture(tmp_path / 'public.pth')
    assert found[:7] == ('tiny', 192, 12, 3, 16, 224, 3)
    assert found.mean[0] == pytest.approx(255 * 0.485)


def test_a_file_without_a_vit_is_refused(tmp_path):
    torch.save(dict(model=dict(conv=torch.zeros(3))), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='no ViT'):
        read_architecture(tmp_path / 'a.pth')


def test_a_config_is_read_and_never_run(tmp_path):
    values = parse_config(CONFIG)
    assert values['model']['encoder'] == {'arch': {'depth': 2, 'heads': 4, 'width': 16}}
    assert values['negative'] == -1.5
    assert 'bad' not in values
    assert parse_config('a = [') == {}
    assert parse_config('(' * 5000) == {}
    assert config_in(read_content(save(tmp_path / 'a.pth'))) == {}


def test_a_fingerprint_follows_the_content(tmp_path):
    one, two = (tmp_path / name for name in 'ab')
    one.write_bytes(b'x' * 10)
    two.write_bytes(b'x' * 10)
    assert file_fingerprint(one) == file_fingerprint(two)
    two.write_bytes(b'x' * 9 + b'y')
    assert file_fingerprint(one) != file_fingerprint(two)
