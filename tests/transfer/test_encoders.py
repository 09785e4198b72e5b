"""Encoders: checkpoint files, runs, and random weights, with short names that stay the same."""
from pathlib import Path

import pytest
from helpers.encoder_files import save

from mae_backbone.transfer.encoders import file_fingerprint, find_encoders, last_of_runs, runs_of
from mae_backbone.transfer.recipe import Entry, Recipe


def test_checkpoints_of_a_run_are_sorted_by_iteration(tmp_path):
    for number in (200, 1000, 50):
        save(tmp_path / 'run' / f'iter_{number}.pth')
    (tmp_path / 'run' / 'interrupted.pth').touch()
    found = find_encoders([str(tmp_path / 'run')], ['random', str(save(tmp_path / 'other.pth'))])
    assert [(encoder.name, encoder.step, encoder.unit, encoder.reference) for encoder in found] == [
        ('iter_50', 50, 'iter', False), ('iter_200', 200, 'iter', False), ('iter_1000', 1000, 'iter', False),
        ('random', None, '', True), ('other', None, '', True)]
    assert found[3].checkpoint is None


def test_names_have_as_many_folders_as_needed_to_be_unique(tmp_path):
    files = [save(tmp_path / run / 'epoch_1.pth') for run in 'ab']
    assert [encoder.name for encoder in find_encoders([str(file) for file in files], [])] == ['a/epoch_1', 'b/epoch_1']
    with pytest.raises(ValueError, match='given twice'):
        find_encoders([str(files[0])], [str(files[0])])


def test_only_the_same_file_counts_as_given_twice(tmp_path, monkeypatch):
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


def test_each_run_is_represented_by_its_last_checkpoint(tmp_path):
    files = [save(tmp_path / name) for name in ('a/epoch_2.pth', 'a/epoch_1.pth', 'b/epoch_1.pth', 'b/iter_5.pth',
                                                'c/mae.pth', 'd/mae.pth')]
    found = find_encoders([str(file) for file in files], ['random'])
    assert [encoder.name for encoder in last_of_runs(found)] == ['a/epoch_2', 'b/epoch_1', 'b/iter_5', 'c/mae',
                                                                 'd/mae', 'random']
    assert {name: [encoder.step for encoder in run] for name, run in runs_of(found, 'epoch').items()} == {
        'a': [2, 1], 'b': [1]}
    assert list(runs_of(found, 'iter')) == ['b']


@pytest.mark.parametrize(('name', 'says'), [
    ('random', 'pass random weights to --against'), ('none.pth', 'check the path'),
    ('.', r'has no checkpoints epoch_N\.pth')])
def test_a_path_without_checkpoint_is_refused(tmp_path, monkeypatch, name: str, says: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        find_encoders([name], [])


def test_a_folder_with_a_config_is_one_encoder_whose_fingerprint_covers_all_files(tmp_path):
    folder = tmp_path / 'vit-mae-base'
    folder.mkdir()
    (folder / 'config.json').write_text('{}')
    (folder / 'model.safetensors.index.json').write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    for name in '12':
        (folder / f'{name}.safetensors').write_bytes(name.encode())
    (encoder,) = find_encoders([str(folder)], [])
    assert (encoder.name, encoder.checkpoint, encoder.step) == ('vit-mae-base', folder, None)
    seen = {encoder.fingerprint}
    for name in ('config.json', '2.safetensors'):
        (folder / name).write_bytes(b'{"changed": 1}')
        seen.add(encoder.fingerprint)
    assert len(seen) == 3


def test_a_fingerprint_depends_on_the_content_only(tmp_path):
    one, two = (tmp_path / name for name in 'ab')
    one.write_bytes(b'x' * 10)
    two.write_bytes(b'x' * 10)
    assert file_fingerprint(one) == file_fingerprint(two)
    two.write_bytes(b'x' * 9 + b'y')
    assert file_fingerprint(one) != file_fingerprint(two)


def test_models_of_timm_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'hub').mkdir()
    mae, dino = save(tmp_path / 'mae.pth'), save(tmp_path / 'dino.pth')
    found = find_encoders(['mae.pth'], ['timm:vit_tiny_patch16_224=dino.pth', 'timm:hub', 'timm:vit_small_patch16_224',
                                        'random', 'clip'],
                          named={'clip': Entry('clip', given=dict(
                              timm='vit_base_patch16_clip_224', checkpoint=str(dino), options=dict(patch_size=8)))})
    assert [(encoder.name, encoder.timm, encoder.weights) for encoder in found] == [
        ('mae', None, str(mae)), ('vit_tiny_patch16_224', {'name': 'vit_tiny_patch16_224'}, str(dino)),
        ('hub', {'name': str(tmp_path / 'hub')}, str(tmp_path / 'hub')),
        ('vit_small_patch16_224', {'name': 'vit_small_patch16_224'}, 'timm'), ('random', None, None),
        ('clip', {'name': 'vit_base_patch16_clip_224', 'patch_size': 8}, str(dino))]
    assert found[3].fingerprint == 'timm:vit_small_patch16_224'
    assert found[1].fingerprint == file_fingerprint(dino)
    assert len({encoder.run for encoder in found}) == len(found)
    twice = find_encoders(['timm:vit_tiny_patch16_224=mae.pth'], ['timm:vit_tiny_patch16_224=dino.pth'])
    assert [encoder.name for encoder in twice] == ['vit_tiny_patch16_224=mae.pth', 'vit_tiny_patch16_224=dino.pth']


@pytest.mark.parametrize(('names', 'says'), [
    (['timm:vit_tiny_patch16_224=none.pth'], r'timm:vit_tiny_patch16_224=none.pth: none.pth does not exist'),
    (['timm:vit_tiny_patch16_224'] * 2, 'given twice: .*vit_tiny'),
    (['clip'], 'the encoder clip of the suite has the checkpoint none.pth, which does not exist'),
    (['vit_tiny_patch16_224'], 'a model of timm: timm:NAME=FILE')])
def test_a_model_of_timm_without_its_file_is_refused(tmp_path, monkeypatch, names: list[str], says: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        find_encoders(names, [], named={'clip': Entry('clip', given=dict(timm='x', checkpoint='none.pth'))})


def test_encoders_of_several_data_sets_share_a_name(tmp_path):
    named = {f'mae/{data}': Entry('mae', Recipe('pretrain', 'mae.py', data), limits={'data': (data,)}, line='mae')
             for data in ('one', 'two')}
    named['long'] = Entry('long', Recipe('pretrain', 'mae.py', 'one', length=9), limits={'data': ('one',)}, line='mae')
    named['noise'] = Entry('noise', given={'like': 'long'})
    found = find_encoders(['mae', 'long', 'noise'], ['random'], named=named)
    assert [(encoder.name, encoder.key, encoder.is_for('two')) for encoder in found] == [
        ('mae', 'mae/one', False), ('mae', 'mae/two', True), ('long', 'long', False), ('noise', 'noise', True),
        ('random', '', True)]
    assert [encoder.key for encoder in last_of_runs(found)] == ['mae/one', 'mae/two', 'noise', ''], 'long is a point'
    assert [encoder.key for encoder in find_encoders(['mae/two'], [], named=named)] == ['mae/two']
    with pytest.raises(ValueError, match='given twice: mae/two'):
        find_encoders(['mae/two'], ['mae'], named=named)
    (tmp_path / 'mae.pth').touch()
    with pytest.raises(ValueError, match='several encoders have the same name, mae'):
        find_encoders(['mae', str(tmp_path / 'mae.pth')], [], named=named)
