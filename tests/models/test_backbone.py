"""The ViT as a backbone: its maps, what is frozen, and the checkpoint it starts from."""
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.models.backbone import ViTBackbone

TINY = dict(arch=dict(width=32, depth=4, heads=2), image_size=32, patch_size=8)


def test_last_feature_map_equals_public_vitdet(golden_vitdet: dict[str, Tensor]):
    backbone = ViTBackbone(dict(width=32, depth=3, heads=2), image_size=64, pretrain_image_size=224, window_size=3,
                           global_blocks=[2], relative_positions=True)
    prefix = 'model.net.'
    backbone.load_state_dict({key.removeprefix(prefix): value for key, value in golden_vitdet.items()
                              if key.startswith(prefix)})
    maps = backbone(golden_vitdet['images'])
    assert len(maps) == 1
    assert_close(maps[0], golden_vitdet['last_feat'], atol=1e-5, rtol=0)


def test_maps_follow_out_indices_with_negative_indices():
    backbone, images = ViTBackbone(**TINY, out_indices=(3, 0, -2, -1)), torch.randn(2, 3, 40, 24)
    maps = backbone(images)
    assert [tuple(one.shape) for one in maps] == [(2, 32, 5, 3)] * 4
    tokens, wanted = backbone.embed(images), []
    for block in backbone.blocks:
        tokens = block(tokens, (5, 3))
        wanted.append(tokens.reshape(2, 5, 3, 32).permute(0, 3, 1, 2))
    for found, i in zip(maps, (3, 0, 2, 3), strict=True):
        assert_close(found, wanted[i], atol=1e-6, rtol=0)


def test_maps_without_class_token_and_with_final_norm():
    backbone = ViTBackbone(**TINY, class_token=True, final_norm=True)
    nn.init.constant_(backbone.norm.weight, 2.0)
    images = torch.randn(1, 3, 32, 32)
    wanted = backbone.encode(backbone.embed(images))[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    assert_close(backbone(images)[0], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize('stages', [-1, 0, 2, 4])
def test_frozen_stages_get_no_gradient_and_stay_in_evaluation(stages: int):
    backbone = ViTBackbone(**TINY, frozen_stages=stages, drop_path_rate=0.5).train()
    frozen = {'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias'} if stages >= 0 else set()
    frozen |= {name for name, _ in backbone.named_parameters()
               if name.startswith(tuple(f'blocks.{i}.' for i in range(stages)))}
    assert {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad} == frozen
    assert [block.training for block in backbone.blocks] == [i >= stages for i in range(4)]
    assert [block.drop_path.training for block in backbone.blocks] == [i >= stages for i in range(4)]
    if stages < 4:
        backbone(torch.randn(2, 3, 32, 32))[0].sum().backward()
        assert {name for name, parameter in backbone.named_parameters() if parameter.grad is None} == frozen
    assert not any(part.training for part in backbone.eval().modules())


def test_init_cfg_loads_checkpoint(tmp_path: Path):
    source = ViTBackbone(**TINY)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'source.pth')
    config = dict(type='mae_backbone.ViTBackbone', **TINY,
                  init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'source.pth')))
    backbone = MODELS.build(config)
    backbone.init_weights()
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in backbone.state_dict().items())
    before = backbone.state_dict()
    ViTBackbone(**TINY).init_weights()  # without init_cfg it stays as it was made
    assert backbone.state_dict().keys() == before.keys()


@pytest.mark.parametrize(('options', 'says'), [
    (dict(out_indices=[4]), r'out_indices=\(4,\), the 4 blocks are numbered from 0'),
    (dict(out_indices=[0, -5]), r'out_indices=\(0, -5\)'),
    (dict(frozen_stages=5), r'frozen_stages=5, expected -1 \(none\) to 4'),
    (dict(frozen_stages=-2), 'frozen_stages=-2'),
    (dict(init_cfg=dict(type='TruncNormal')), 'expected dict.*Pretrained.*checkpoint=PATH'),
    (dict(init_cfg=dict(type='Pretrained')), 'expected dict.*Pretrained.*checkpoint=PATH'),
])
def test_invalid_options_are_refused(options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        ViTBackbone(**TINY, **options)


def test_a_misspelled_option_is_refused():
    with pytest.raises(TypeError, match='windows'):
        ViTBackbone(**TINY, windows=14)


def test_a_frozen_backbone_does_not_train_the_relative_bias_that_its_blocks_share():
    arch = dict(width=32, depth=2, heads=2)
    model = ViTBackbone(arch, image_size=32, patch_size=8, relative_bias='shared', frozen_stages=2)
    assert not [name for name, value in model.named_parameters() if value.requires_grad]


def test_a_backbone_without_outputs_is_refused():
    with pytest.raises(ValueError, match=r'out_indices=\(\), the 2 blocks'):
        ViTBackbone(dict(width=32, depth=2, heads=2), image_size=32, patch_size=8, out_indices=())
