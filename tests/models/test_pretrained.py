"""Models are saved as folders, come back bit for bit, and go to the hub only when they are asked to."""
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import stored_models
from helpers.stored_models import TINY, WINDOWED, randomize
from torch import nn

import mae_backbone
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.core import mae, vit

WEIGHTS = {'README.md', 'config.json', 'model.safetensors'}


def make(name: str, **options) -> nn.Module:
    if name == 'MAE':
        return randomize(mae_backbone.MAE(vit.ViT(**TINY), **stored_models.DECODER | options)).eval()
    return randomize(getattr(mae_backbone, name)(**TINY | options)).eval()


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_public_classes_are_those_of_the_core():
    assert issubclass(mae_backbone.ViT, vit.ViT)
    assert issubclass(mae_backbone.MAE, mae.MAE)


@pytest.mark.parametrize(('name', 'options'), [
    ('ViT', {}), ('ViT', dict(class_token=False, final_norm=False, image_size=(32, 64), in_channels=5)),
    ('ViT', dict(relative_bias='shared')), ('ViT', dict(relative_bias='block', class_token=False)),
    ('ViTBackbone', dict(out_indices=(0, -1), drop_path_rate=0.25)), ('ViTBackbone', WINDOWED),
    ('ViTBackbone', dict(window_size=2, shifted_windows=True)), ('ViTBackbone', dict(conv_blocks=[1])),
    ('MAE', {}), ('MAE', dict(norm_pix='image', mask_ratio=0.6, predict_ratio=0.5)),
])
def test_folder_gives_the_model_back(tmp_path: Path, name: str, options: dict):
    model = make(name, **options)
    folder = model.save_pretrained(tmp_path / 'saved')
    assert {path.name for path in folder.iterdir()} == WEIGHTS
    again = type(model).from_pretrained(folder)
    assert_equal(model, again)
    assert again.hub_arguments() == model.hub_arguments()
    assert not again.training
    images = torch.randn(2, options.get('in_channels', 3), *(
        (64, 64) if 'pretrain_image_size' in options else (32, 64) if 'image_size' in options else (32, 32)))
    with torch.no_grad():
        if name == 'MAE':
            mask = model.draw_mask(torch.zeros(2, 16, 192), (4, 4), torch.tensor([1, 2]))
            assert torch.equal(model(images, mask)[0], again(images, mask)[0])
        else:
            for first, second in zip(model.feature_maps(images), again.feature_maps(images), strict=True):
                assert torch.equal(first, second)


def test_folder_is_read_by_everything(tmp_path: Path):
    model = make('MAE')
    folder = model.save_pretrained(tmp_path / 'saved')
    encoder = vit.ViT(**TINY)
    load_encoder(encoder, folder)
    assert_equal(encoder, model.encoder)
    backbone = mae_backbone.ViTBackbone.from_pretrained(folder, image_size=64, out_indices=[0])
    assert backbone.grid == (8, 8)
    assert_equal(backbone.blocks, model.encoder.blocks)
    assert_equal(mae_backbone.ViT.from_pretrained(folder), model.encoder)


def test_arguments_of_the_call_win(tmp_path: Path):
    folder = make('MAE').save_pretrained(tmp_path / 'saved')
    assert mae_backbone.MAE.from_pretrained(folder, mask_ratio=0.9).mask_ratio == 0.9


def test_any_layout_is_loaded(tmp_path: Path):
    source = stored_models.mae(tmp_path / 'mae.pth')
    weights = torch.load(source, weights_only=True)['state_dict']
    model = mae_backbone.MAE.from_pretrained(source)
    assert model.mask_ratio == 0.75
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[f'mae.{name}']), name
    torch.save(vit.ViT(**TINY).state_dict(), tmp_path / 'timm.pth')
    with pytest.raises(ValueError, match='how many heads'):
        mae_backbone.ViT.from_pretrained(tmp_path / 'timm.pth')
    assert mae_backbone.ViT.from_pretrained(tmp_path / 'timm.pth', heads=2).arch.heads == 2


def test_license_and_training_travel(tmp_path: Path):
    source = stored_models.mae(tmp_path / 'mae_pretrain_vit_tiny.pth')
    folder = mae_backbone.MAE.from_pretrained(source).save_pretrained(tmp_path / 'saved')
    card = (folder / 'README.md').read_text()
    assert card.startswith('---\nlicense: cc-by-nc-4.0\nlibrary_name: mae_backbone\n')
    assert '| recipe | mae_tiny |' in card
    again = mae_backbone.MAE.from_pretrained(folder)
    assert again.stored.origin.license == 'cc-by-nc-4.0'
    assert not again.stored.weights  # not in memory twice


def test_a_model_card_that_is_there_stays(tmp_path: Path):
    (tmp_path / 'README.md').write_text('mine')
    (tmp_path / 'notes.txt').write_text('mine')
    make('ViT').save_pretrained(tmp_path)
    assert (tmp_path / 'README.md').read_text() == 'mine'
    assert {path.name for path in tmp_path.iterdir()} == {*WEIGHTS, 'notes.txt'}


# ---- the hub

@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A cache of the hub that has one repository."""
    cache = tmp_path / 'cache'
    repository = cache / 'models--me--mae'
    make('MAE').save_pretrained(tmp_path / 'saved')
    (repository / 'snapshots').mkdir(parents=True)
    (tmp_path / 'saved').rename(repository / 'snapshots' / ('0' * 40))
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('0' * 40)
    return cache


def test_repositories_come_from_the_cache_and_nothing_is_downloaded(cached: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip('huggingface_hub')
    monkeypatch.setattr('socket.socket.connect', lambda *_: pytest.fail('connects to the network'))
    assert mae_backbone.MAE.from_pretrained('me/mae', cache_dir=cached).encoder.arch.heads == 4
    with pytest.raises(FileNotFoundError, match='me/other is no file or folder here, and no repository in the cache'):
        mae_backbone.MAE.from_pretrained('me/other', cache_dir=cached)


@pytest.mark.parametrize('name', ['./saved', '/nowhere/saved', 'a/b/c', 'saved model'])
def test_names_that_are_paths_are_not_looked_up(name: str):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        mae_backbone.ViT.from_pretrained(name)


def test_upload(monkeypatch: pytest.MonkeyPatch):
    hub = pytest.importorskip('huggingface_hub')
    calls: list = []

    class Api:
        def __init__(self, token: str | None) -> None:
            calls.append(('token', token))

        def create_repo(self, repo_id: str, **options: object) -> SimpleNamespace:
            return SimpleNamespace(repo_id=f'me/{repo_id}')

        def file_exists(self, *_: object, **options: object) -> bool:
            return False

        def upload_folder(self, *, folder_path: Path, **options: object) -> SimpleNamespace:
            calls.append((options['repo_id'], {path.name for path in folder_path.iterdir()},
                          (folder_path / 'README.md').read_text(), options['ignore_patterns']))
            return SimpleNamespace(commit_url='https://hub/commit/1')
    monkeypatch.setattr(hub, 'HfApi', Api)
    assert make('ViT').push_to_hub('vit', token='secret', license='mit') == 'https://hub/commit/1'
    assert calls[0] == ('token', 'secret')
    assert calls[1][:2] == ('me/vit', WEIGHTS)
    assert "ViT.from_pretrained('me/vit')" in calls[1][2]
    assert 'license: mit' in calls[1][2]


def test_a_missing_huggingface_hub_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r'pip install mae_backbone\[hub\]'):
        make('ViT').push_to_hub('vit')


def test_config_says_what_is_in_the_folder(tmp_path: Path):
    folder = make('ViTBackbone', **WINDOWED).save_pretrained(tmp_path)
    config = json.loads((folder / 'config.json').read_text())
    assert config['class'] == 'ViTBackbone'
    assert config['arguments']['window_size'] == 3
    assert config['mae_backbone_conversion']['architecture']['global_blocks'] == [2]
