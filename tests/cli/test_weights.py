"""The options of pretrained weights: written into the config, and compared with it before anything is built."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.cli.weights import set_weights
from mae_backbone.core.vit import ViT
from mae_backbone.models.backbone import ViTBackbone

ARCH = dict(width=64, depth=1, heads=2)
HALF = [127.5, 127.5, 127.5]
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def config(**preprocessor) -> Config:
    return Config(dict(model=dict(backbone=dict(arch=ARCH), data_preprocessor=dict(preprocessor))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of timm whose weights expect pixels with a mean and std of 0.5."""
    path = tmp_path / 'timm'
    path.mkdir()
    save_file(ViT(ARCH, image_size=16, patch_size=8).state_dict(), path / 'model.safetensors')
    (path / 'config.json').write_text(json.dumps(dict(
        architecture='vit_base_patch16_224', global_pool='token', model_args=dict(num_heads=2),
        pretrained_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3))))
    return path


def test_options_go_into_the_config_and_from_there_to_the_loader(folder: Path):
    cfg = config(mean=HALF, std=HALF)
    assert set_weights(cfg, str(folder), heads=2) == []
    cfg.model.backbone.init_cfg.weights_key = 'student'
    init = cfg.model.backbone.init_cfg
    assert init == dict(type='Pretrained', checkpoint=str(folder), heads=2, weights_key='student')
    ViTBackbone(ARCH, image_size=16, patch_size=8, init_cfg=init.to_dict() | dict(weights_key=None)).init_weights()
    with pytest.raises(CheckpointError, match='no weights that --weights-key student could mean'):
        ViTBackbone(ARCH, image_size=16, patch_size=8, init_cfg=init.to_dict()).init_weights()


def test_another_normalization_of_the_pixels_is_warned_of(folder: Path):
    (line,) = set_weights(config(**IMAGENET), str(folder))
    assert line.startswith(f'warning: {folder} was trained on pixels with another normalization')
    assert '127.5' in line
    assert '123.675' in line


def test_a_config_may_leave_the_normalization_to_the_checkpoint(folder: Path, tmp_path: Path):
    cfg = config(mean='checkpoint', std='checkpoint')
    (line,) = set_weights(cfg, str(folder))
    assert 'stated by config.json: data_preprocessor follows' in line
    assert (cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std) == (HALF, HALF)
    torch.save(ViT(ARCH, image_size=16, patch_size=8).state_dict(), tmp_path / 'vit.pth')
    with pytest.raises(ValueError, match=r'vit.pth does not state it: set mean and std'):
        set_weights(config(mean='checkpoint', std='checkpoint'), str(tmp_path / 'vit.pth'))
    with pytest.raises(ValueError, match=r'there are none: pass --pretrained'):
        set_weights(config(mean='checkpoint', std='checkpoint'), None)


def test_mistakes_are_told_before_the_model_is_built(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match='describe the file of --pretrained: pass --pretrained too'):
        set_weights(config(), None, heads=2)
    with pytest.raises(FileNotFoundError, match=r'missing.pth does not exist: check the path'):
        set_weights(config(), str(tmp_path / 'missing.pth'))
    with pytest.raises(ValueError, match=r"init_cfg=.*expected dict\(type='Pretrained', checkpoint=PATH\)"):
        ViTBackbone(ARCH, init_cfg=dict(type='Pretrained', checkpoint='x', head=3))


def test_weights_of_the_config_that_do_not_exist_name_their_pretraining(tmp_path: Path):
    path = tmp_path / 'cells.py'
    path.write_text("model = dict(backbone=dict(init_cfg=dict(type='Pretrained', "
                    "checkpoint='work_dirs/cells_pretrain/iter_9.pth')))\n")
    with pytest.raises(FileNotFoundError, match=r'iter_9.pth, from which .*: run the pretraining that writes it, or'):
        set_weights(Config.fromfile(path), None)
    (tmp_path / 'cells_pretrain.py').touch()
    with pytest.raises(FileNotFoundError, match=r'run `mae-backbone pretrain .*cells_pretrain.py` first, or'):
        set_weights(Config.fromfile(path), None)
    with pytest.raises(FileNotFoundError, match='run the pretraining that writes it'):
        set_weights(Config(dict(model=dict(init_cfg=dict(type='Pretrained', checkpoint='missing/mae.pth')))), None)
    for known in ('mae_vit_base', 'https://example.org/vit.pth'):  # downloaded when the model is built
        assert set_weights(Config(dict(model=dict(backbone=dict(
            init_cfg=dict(type='Pretrained', checkpoint=known))))), None) == []


def test_a_resumed_run_keeps_the_normalization_of_its_checkpoint(tmp_path: Path):
    text = 'model = dict(type="mae_backbone.ViTClassifier", backbone=dict(arch="base"), ' \
           'data_preprocessor=dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0]))'
    torch.save(dict(meta=dict(cfg=text), state_dict={'backbone.patch_embed.proj.weight': torch.ones(1, 1, 1, 1)}),
               tmp_path / 'epoch_1.pth')
    cfg = config(mean='checkpoint', std='checkpoint')
    cfg.resume, cfg.load_from = True, str(tmp_path / 'epoch_1.pth')
    set_weights(cfg, None)
    assert cfg.model.data_preprocessor.mean == [1.0, 2.0, 3.0]


def test_the_outline_of_a_large_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Options are checked before the start without reading the tensors of an archive."""
    torch.save(ViT(ARCH, image_size=16, patch_size=8).state_dict(), tmp_path / 'vit.pth')
    monkeypatch.setattr('mae_backbone.checkpoints.reading._read_entry', lambda *_: pytest.fail('a tensor was read'))
    set_weights(config(**IMAGENET), str(tmp_path / 'vit.pth'))
    with pytest.raises(pytest.fail.Exception):
        load_encoder(ViT(ARCH, image_size=16, patch_size=8), tmp_path / 'vit.pth')
