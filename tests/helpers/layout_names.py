"""Names of layouts whose libraries are not installed, written down from their source and not from the tables."""
import torch
from torch import Tensor

# Part of a block in timm -> the same part in mmpretrain (`VisionTransformer`, `MAEPretrainDecoder`).
_MMPRETRAIN = {'norm1': 'ln1', 'norm2': 'ln2', 'attn.qkv': 'attn.qkv', 'attn.proj': 'attn.proj',
               'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1'}


def mmpretrain_block(block: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A block of timm (names without prefix) as mmpretrain names it."""
    renamed = {}
    for name, value in block.items():
        part, kind = name.rsplit('.', 1)
        renamed[f'{prefix}.{_MMPRETRAIN[part]}.{kind}'] = value
    return renamed


def mmpretrain_encoder(weights: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The state dict of timm's ViT as mmpretrain's MAEViT names it, under `backbone.`."""
    renamed = {'backbone.cls_token': weights['cls_token'], 'backbone.pos_embed': weights['pos_embed'],
               'backbone.patch_embed.projection.weight': weights['patch_embed.proj.weight'],
               'backbone.patch_embed.projection.bias': weights['patch_embed.proj.bias'],
               'backbone.ln1.weight': weights['norm.weight'], 'backbone.ln1.bias': weights['norm.bias']}
    for i in range(depth):
        renamed |= mmpretrain_block(parts(weights, f'blocks.{i}.'), f'backbone.layers.{i}')
    return renamed


def mmpretrain_decoder(weights: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """A decoder under the names of the public MAE code as mmpretrain's MAEPretrainDecoder names it, under `neck.`."""
    renamed = {f'neck.{name}': weights[name] for name in (
        'mask_token', 'decoder_pos_embed', 'decoder_embed.weight', 'decoder_embed.bias', 'decoder_pred.weight',
        'decoder_pred.bias')}
    renamed |= {f'neck.ln1.{kind}': weights[f'decoder_norm.{kind}'] for kind in ('weight', 'bias')}
    for i in range(depth):
        renamed |= mmpretrain_block(parts(weights, f'decoder_blocks.{i}.'), f'neck.decoder_blocks.{i}')
    return renamed


def mmpretrain_positions(side: int, width: int) -> Tensor:
    """`build_2d_sincos_position_embedding` of mmpretrain (1, 1 + L, D): `meshgrid` with `indexing='ij'` exchanges rows
    and columns.
    """
    w, h = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing='ij')
    omega = 10000 ** -(torch.arange(width // 4) / (width // 4))
    table = torch.cat([f(axis.flatten()[:, None] * omega) for axis in (w, h) for f in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(1, width), table])[None]


def parts(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
