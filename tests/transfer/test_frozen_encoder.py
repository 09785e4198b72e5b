"""Frozen encoders: features, attention and maps are what the model computes."""
from pathlib import Path

import pytest
import torch
from helpers.encoder_files import CONFIG, save

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import load_model
from mae_backbone.core.vit import ViT
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.transfer.frozen_encoder import (
    build_frozen,
    build_pretrainer,
    class_attention,
    normalized,
    principal_maps,
)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return save(tmp_path / 'mae.pth', config=CONFIG)


def test_a_frozen_encoder_has_the_weights_of_its_file(checkpoint):
    model = build_frozen(read_architecture(checkpoint)._asdict(), checkpoint)
    stored = torch.load(checkpoint, weights_only=True)['state_dict']
    assert not model.training
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, stored[f'mae.encoder.{name}'])
    pixels = normalized(model, [torch.full((3, 16, 16), 9, dtype=torch.uint8)])
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([8 / 4, 7 / 5, 6 / 6]))


def test_random_weights_depend_on_the_seed_and_leave_the_global_state(checkpoint):
    architecture = read_architecture(checkpoint)._asdict()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (build_frozen(architecture, None, seed=seed).backbone.blocks[0].mlp.fc1.weight
                           for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.rand(1), expected)


def test_class_attention_is_the_attention_of_the_last_block():
    """Reference: softmax(q k^T / sqrt(d)) of the last block, applied to its input tokens."""
    torch.manual_seed(0)
    vit = ViT(dict(width=16, depth=2, heads=2), image_size=16, patch_size=4).eval()
    images = torch.randn(3, 3, 16, 24)
    seen = class_attention(vit, images)
    assert seen.shape == (3, 4, 6)
    with torch.no_grad():
        tokens = vit.blocks[0](vit._prepend_class_token(vit.embed(images)), None)
        block = vit.blocks[1]
        q, k, v = block.attn.qkv(block.norm1(tokens)).reshape(3, 25, 3, 2, 8).unbind(2)
        weights = torch.einsum('bhd,bnhd->bhn', q[:, 0] / 8 ** 0.5, k).softmax(dim=2)
        torch.testing.assert_close(seen.flatten(1), weights[:, :, 1:].mean(dim=1))
        mixed = torch.einsum('bhn,bnhd->bhd', weights, v).flatten(1)
        torch.testing.assert_close(block.attn.proj(mixed), block.attn(block.norm1(tokens))[:, 0])
    assert not vit.blocks[1]._forward_pre_hooks, 'the hook is gone'


def test_principal_maps_follow_the_first_principal_component():
    torch.manual_seed(0)
    vit = ViT(dict(width=16, depth=1, heads=2), image_size=16, patch_size=4).eval()
    images = [torch.randn(3, 16, 16), torch.randn(3, 24, 16)]
    maps = principal_maps(vit, images)
    assert [tuple(part.shape) for part in maps] == [(4, 4, 3), (6, 4, 3)]
    assert all(part.min() >= 0 and part.max() <= 1 for part in maps)
    with torch.no_grad():
        patches = torch.cat([vit.feature_maps(image[None])[0][0].flatten(1).T for image in images])
    scores = torch.linalg.svd(patches - patches.mean(dim=0), full_matrices=False)[0][:, 0]
    found = torch.cat([part.flatten(0, 1) for part in maps])[:, 0]
    assert abs(float(torch.corrcoef(torch.stack([scores, found]))[0, 1])) > 0.98  # the ends are clipped


def test_a_pretrainer_is_built_from_numbers_only(tmp_path):
    text = ("model = dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2, "
            "encoder=dict(arch=dict(width=16, depth=2, heads=4)), masking=dict(type='os.abort'), norm_pix=False)")
    model = MAEPretrainer(dict(arch=dict(width=16, depth=2, heads=4), image_size=16, patch_size=4), decoder_width=16,
                          decoder_depth=1, decoder_heads=2, data_preprocessor=dict(type='ImgDataPreprocessor',
                                                                                   mean=[1.0] * 3, std=[2.0] * 3))
    content = dict(state_dict=model.state_dict(), meta=dict(cfg=text))
    torch.save(content, tmp_path / 'mae.pth')
    built = build_pretrainer(tmp_path / 'mae.pth')
    load_model(built, content, 'mae.pth')
    assert built.mae.norm_pix is False
    assert built.mae.encoder.arch.heads == 4


def test_a_file_without_decoder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='no decoder'):
        build_pretrainer(save(tmp_path / 'a.pth'))
