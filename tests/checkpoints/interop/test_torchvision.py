"""Files of torchvision, lightly and open_clip."""
from pathlib import Path

import pytest
import torch
from helpers.interop import assert_agree, images, randomize, tokens_of
from helpers.small_vit import DEPTH, HEADS, PATCH, SIZE, WIDTH, vit
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import open_source
from mae_backbone.core.decoder import MAEDecoder

SIZES = dict(image_size=SIZE, patch_size=PATCH, num_layers=DEPTH, num_heads=HEADS, hidden_dim=WIDTH, mlp_dim=4 * WIDTH)


def tokens_of_torchvision(model: VisionTransformer) -> Tensor:
    tokens = model._process_input(images())
    return model.encoder(torch.cat([model.class_token.expand(2, -1, -1), tokens], dim=1)).detach()


def test_torchvision(tmp_path: Path):
    theirs = randomize(VisionTransformer(**SIZES, num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / 'vit.pth')
    assert_agree('torchvision VisionTransformer', tokens_of(tmp_path / 'vit.pth', heads=HEADS),
                 tokens_of_torchvision(theirs))


def decoder_of(path: Path) -> MAEDecoder:
    decoder = MAEDecoder(WIDTH, patch_pixels=3 * PATCH**2, grid=(4, 4), width=32, depth=2, heads=4).eval()
    decoder.load_state_dict(open_source(path).decoder())
    return decoder


@torch.no_grad()
def predicted(decoder: MAEDecoder, latent: Tensor) -> Tensor:
    """Pixels of all patches, if all are visible: latent (2, 1 + L, D) -> (2, L, P)."""
    tokens = decoder.decoder_embed(latent) + decoder.decoder_pos_embed
    for block in decoder.decoder_blocks:
        tokens = block(tokens)
    return decoder.decoder_pred(decoder.decoder_norm(tokens))[:, 1:]


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning', 'ignore::UserWarning')
def test_lightly_on_timm(tmp_path: Path):
    pytest.importorskip('lightly', reason='needs lightly: pip install mae_backbone[test-interop]')
    from lightly.models.modules.masked_autoencoder_timm import MAEDecoderTIMM
    from lightly.models.modules.masked_vision_transformer_timm import MaskedVisionTransformerTIMM
    encoder = MaskedVisionTransformerTIMM(vit=TimmViT(SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
                                                      num_heads=HEADS, num_classes=0))
    decoder = MAEDecoderTIMM(num_patches=16, patch_size=PATCH, embed_dim=WIDTH, decoder_embed_dim=32, decoder_depth=2,
                             decoder_num_heads=4)
    module = randomize(nn.ModuleDict(dict(backbone=encoder, decoder=decoder)))
    path = tmp_path / 'lightning.ckpt'
    torch.save({'state_dict': module.state_dict(), 'pytorch-lightning_version': '2.5', 'epoch': 1}, path)
    assert open_source(path).layout.name == 'lightly'
    latent = encoder.encode(images()).detach()
    assert_agree('lightly MaskedVisionTransformerTIMM', tokens_of(path, heads=HEADS), latent)
    theirs = decoder.predict(decoder.decode(decoder.embed(latent))).detach()[:, 1:]
    assert_agree('lightly MAEDecoderTIMM', predicted(decoder_of(path), latent), theirs)


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning', 'ignore::UserWarning')
def test_lightly_on_torchvision(tmp_path: Path):
    pytest.importorskip('lightly', reason='needs lightly: pip install mae_backbone[test-interop]')
    from lightly.models.modules.masked_autoencoder import MAEBackbone, MAEDecoder
    encoder = MAEBackbone(**SIZES)
    decoder = MAEDecoder(seq_length=17, num_layers=2, num_heads=4, embed_input_dim=WIDTH, hidden_dim=32, mlp_dim=128,
                         out_dim=3 * PATCH**2)
    module = randomize(nn.ModuleDict(dict(backbone=encoder, decoder=decoder)))
    path = tmp_path / 'lightning.ckpt'
    torch.save({'state_dict': module.state_dict() | {'mask_token': torch.ones(1, 1, 32)}}, path)
    latent = encoder.encode(images()).detach()
    assert_agree('lightly MAEBackbone', tokens_of(path, heads=HEADS), latent)
    theirs = decoder.predict(decoder.decode(decoder.embed(latent))).detach()[:, 1:]
    assert_agree('lightly MAEDecoder', predicted(decoder_of(path), latent), theirs)


def test_open_clip_is_refused_with_advice(tmp_path: Path):
    open_clip = pytest.importorskip('open_clip', reason='needs open_clip: pip install mae_backbone[test-interop]')
    model = open_clip.model.VisionTransformer(SIZE, PATCH, WIDTH, DEPTH, HEADS, 4.0, output_dim=8)
    torch.save({f'visual.{name}': value for name, value in model.state_dict().items()}, tmp_path / 'clip.pth')
    with pytest.raises(CheckpointError, match=r"CLIP \(OpenAI, open_clip\): it has a norm before.*TimmViT"):
        load_encoder(vit(), tmp_path / 'clip.pth', heads=HEADS)
