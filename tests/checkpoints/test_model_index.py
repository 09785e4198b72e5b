"""Public weights by name: the list is consistent, files are found and checked, messages say where to get them."""
import hashlib
import re
from pathlib import Path

import pytest
import timm
import torch

from mae_backbone.checkpoints import model_index
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.model_index import find_file, public_weights, resolve, weights_folders
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.cli.main import main
from mae_backbone.core.vit import ARCHS, ViT
from mae_backbone.transfer.encoders import find_encoders

TINY = dict(arch=dict(width=64, depth=2, heads=1), image_size=32, patch_size=16)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights. The folder of torch.hub is an empty one."""
    (tmp_path / 'weights').mkdir()
    monkeypatch.setenv('MAE_BACKBONE_WEIGHTS', str(tmp_path / 'weights'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'weights'


def with_entry(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    entries = public_weights() | {'mae_vit_base': public_weights()['mae_vit_base']._replace(**values)}
    monkeypatch.setattr(model_index, 'public_weights', lambda: entries)


def test_entries_are_consistent():
    entries = public_weights()
    assert len({entry.file for entry in entries.values()}) == len(entries)
    known = set(timm.list_pretrained())
    for name, entry in entries.items():
        assert name == entry.name
        assert re.fullmatch(r'[a-z0-9_]+', name), 'a name must not look like a path'
        assert entry.arch in ARCHS
        assert entry.url.startswith('https://')
        assert entry.page.startswith('https://')
        assert entry.timm is None or entry.timm in known or timm.is_model(entry.timm.partition('.')[0])
        for digits, length in ((entry.md5, 32), (entry.sha256, 64)):
            assert digits is None or re.fullmatch(rf'[0-9a-f]{{6,{length}}}', digits)
        if '/mae/' in entry.url:
            assert entry.license == 'CC BY-NC 4.0'
        if entry.timm and '_reg' not in name and entry.timm in known:
            cfg = timm.get_pretrained_cfg(entry.timm)
            assert cfg.url in (entry.url, None, '') or cfg.url.endswith('_slim.pth'), name


def test_known_weights_are_found_and_load(folder: Path, monkeypatch: pytest.MonkeyPatch):
    source, target = ViT(**TINY), ViT(**TINY)
    torch.save({'model': source.state_dict()}, folder / 'mae_pretrain_vit_base.pth')
    digest = hashlib.md5((folder / 'mae_pretrain_vit_base.pth').read_bytes()).hexdigest()
    with_entry(monkeypatch, md5=digest[:6])
    assert resolve('mae_vit_base') == folder / 'mae_pretrain_vit_base.pth'
    load_encoder(target, 'mae_vit_base', heads=1)
    assert torch.equal(target.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)
    found, = find_encoders(['mae_vit_base'], [])
    assert (found.name, found.checkpoint) == ('mae_vit_base', folder / 'mae_pretrain_vit_base.pth')
    with_entry(monkeypatch, md5='0' * 6)
    with pytest.raises(CheckpointError, match=rf'is not the published file of mae_vit_base: its md5 is {digest}, and '
                                              r'not 000000\.\.\.\. Download it again from https'):
        load_encoder(target, 'mae_vit_base')
    with_entry(monkeypatch, md5=None)
    assert resolve('mae_vit_base') == folder / 'mae_pretrain_vit_base.pth'


def test_folder_of_torch_hub_is_searched_last(folder: Path, monkeypatch: pytest.MonkeyPatch):
    entry = public_weights()['mae_vit_base']
    hub = weights_folders()[-1]
    assert hub == Path(torch.hub.get_dir()) / 'checkpoints'
    hub.mkdir(parents=True)
    (hub / entry.file).touch()
    assert find_file(entry) == hub / entry.file
    (folder / entry.file).touch()
    assert find_file(entry) == folder / entry.file
    monkeypatch.delenv('TORCH_HOME')
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    assert weights_folders()[-1] == Path(torch.hub.get_dir()) / 'checkpoints'


def test_missing_weights_say_where_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch):
    says = (r'mae_vit_base is not on this machine: no mae_pretrain_vit_base\.pth in .*'
            r'Get it from https://dl\.fbaipublicfiles\.com/mae/.*license: CC BY-NC 4\.0\)\. Put it into .*weights')
    with pytest.raises(FileNotFoundError, match=says):
        load_encoder(ViT(**TINY), 'mae_vit_base')
    monkeypatch.delenv('MAE_BACKBONE_WEIGHTS')
    with pytest.raises(FileNotFoundError, match='set MAE_BACKBONE_WEIGHTS to that folder'):
        resolve('mae_vit_base')
    with pytest.raises(FileNotFoundError, match=r'mae_vit_bse is neither .* did you mean mae_vit_base'):
        resolve('mae_vit_bse')


def test_paths_come_first_and_stay(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    for path in ('work/mae_vit_base', 'mae_vit_base.pth', './missing.pth'):
        assert resolve(path) == Path(path)
    Path('mae_vit_base').touch()
    assert resolve('mae_vit_base') == Path('mae_vit_base')


def test_command_lists_and_shows(folder: Path, capsys: pytest.CaptureFixture):
    (folder / 'sam_vit_b_01ec64.pth').touch()
    assert main(['models']) == 0
    lines = capsys.readouterr().out.splitlines()
    here = {line.split()[0]: line.split()[-1] for line in lines[1:1 + len(public_weights())]}
    assert here.keys() == public_weights().keys()
    assert [name for name, found in here.items() if found == 'yes'] == ['sam_vit_b']
    assert main(['models', 'mask_rcnn_vitdet_b']) == 0
    assert 'license      not stated for the weights: see the page' in capsys.readouterr().out
    assert main(['models', 'mae_vit_bas']) == 2
    assert 'did you mean mae_vit_base' in capsys.readouterr().err
