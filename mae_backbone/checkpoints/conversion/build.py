"""Builds our models from a `StoredModel`, and computes their outputs."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.state_dicts import mismatches
from mae_backbone.core.decoder import MAEDecoder
from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import mask_from_noise
from mae_backbone.core.patches import patchify
from mae_backbone.core.vit import ViT


def build_encoder(model: StoredModel) -> ViT:
    """Builds the encoder of a model with its weights, in evaluation mode.

    Raises:
        RuntimeError: the weights do not fit the architecture.
    """
    encoder = _empty_encoder(model)
    encoder.load_state_dict(model.encoder)
    return encoder.eval()


def problems_of_weights(model: StoredModel) -> str:
    """Returns the reasons why the weights do not fit the architecture, a line for each kind; '' if they fit.

    Only names, shapes and dtypes are compared.
    """
    decoder = model.architecture.decoder
    with torch.device('meta'):
        encoder = _empty_encoder(model)
        expected = encoder.state_dict()
        if decoder is not None:
            patch_pixels = encoder.patch_size**2 * encoder.in_channels
            expected |= MAEDecoder(encoder.arch.width, patch_pixels=patch_pixels, grid=encoder.grid,
                                   width=decoder.width, depth=decoder.depth, heads=decoder.heads).state_dict()
    return mismatches(model.encoder | model.decoder, expected)


def _empty_encoder(model: StoredModel) -> ViT:
    architecture, weights = model.architecture, model.encoder
    depth = architecture.depth
    tables = [_side(weights.get(f'blocks.{i}.attn.rel_pos_h')) for i in range(depth)]
    bias = ('shared' if 'rel_pos_bias.relative_position_bias_table' in weights else
            'block' if 'blocks.0.attn.relative_position_bias_table' in weights else None)
    options: dict[str, Any] = dict(
        image_size=[side * architecture.patch_size for side in table_grid(model)],
        pretrain_image_size=architecture.image_size, patch_size=architecture.patch_size,
        in_channels=architecture.in_channels, class_token=architecture.class_token,
        final_norm=architecture.final_norm, window_size=architecture.window_size or 0,
        global_blocks=architecture.global_blocks if architecture.window_size else (),
        shifted_windows=architecture.shifted_windows,
        conv_blocks=[i for i in range(depth) if f'blocks.{i}.residual.conv1.weight' in weights],
        relative_positions=any(tables), relative_bias=bias)
    return ViT(dict(width=architecture.width, depth=depth, heads=architecture.heads), **options)


def build_mae(model: StoredModel) -> MAE:
    """Builds the MAE of a model with its weights, in evaluation mode.

    Raises:
        ValueError: the model has no decoder.
        RuntimeError: the weights do not fit the architecture.
    """
    decoder = model.architecture.decoder
    if decoder is None:
        raise ValueError(f'{model.origin.file} has no decoder: it holds an encoder, not a MAE')
    mae = MAE(build_encoder(model), decoder_width=decoder.width, decoder_depth=decoder.depth,
              decoder_heads=decoder.heads, norm_pix=model.architecture.norm_pix,
              mask_ratio=model.architecture.mask_ratio)
    mae.decoder.load_state_dict(model.decoder)
    return mae.eval()


@torch.no_grad()
def our_outputs(model: StoredModel, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """Computes the outputs of a model with our implementation.

    Args:
        model: model that is not a detector.
        images: (B, C, H, W).
        noise: (B, L). The order of the values determines the mask of a MAE.

    Returns:
        'features': tokens (B, 1 + L, D), or feature maps (B, D, h, w) without a class token; 'pixels': (B, L, P) of a
        MAE; 'logits': (B, num_classes) of a classifier.
    """
    if model.architecture.decoder is not None:
        mae = build_mae(model)
        mask = mask_from_noise(noise, model.architecture.mask_ratio)
        grid = mae.encoder.check(images)
        tokens = mae.encoder.embed_visible(patchify(images, mae.encoder.patch_size), mask, grid)
        return {'features': mae.encoder.encode(mae.encoder.embed(images)),
                'pixels': mae.decoder.predict_all(mae.encoder.encode(tokens), mask, grid)}
    encoder = build_encoder(model)
    if not model.architecture.class_token or encoder.relative_bias:
        return {'features': encoder.feature_maps(images)[0]}
    tokens = encoder.encode(encoder.embed(images))
    outputs = {'features': tokens}
    if model.num_classes and model.architecture.pool in ('mean', 'class'):
        outputs['logits'] = _logits(model, tokens)
    return outputs


def table_grid(model: StoredModel) -> tuple[int, int]:
    """Returns the grid (h, w) in patches for which the tables of relative positions are stored.

    Only tables of blocks without windows are used. If there are none, returns the grid of the position embeddings.
    """
    architecture, weights = model.architecture, model.encoder
    for i in range(architecture.depth):
        height, width = weights.get(f'blocks.{i}.attn.rel_pos_h'), weights.get(f'blocks.{i}.attn.rel_pos_w')
        if height is not None and width is not None and (not architecture.window_size
                                                         or i in architecture.global_blocks):
            return _side(height), _side(width)
    for name, table in weights.items():
        if name.endswith('.relative_position_bias_table') and not architecture.window_size:
            side = round((max(1, len(table) - 3) ** 0.5 + 1) / 2)
            return side, side
    return architecture.grid


def _side(table: Tensor | None) -> int:
    """Returns `side` for a table (2 * side - 1, d) of relative positions; 0 if there is no table."""
    return 0 if table is None else (len(table) + 1) // 2


def _logits(model: StoredModel, tokens: Tensor) -> Tensor:
    """Applies pooling, norms and linear layer of `ViTClassifier`: tokens (B, 1 + L, D) -> logits (B, num_classes)."""
    weights, width = model.head, (model.architecture.width,)
    pooled = tokens[:, 0] if model.architecture.pool == 'class' else tokens[:, 1:].mean(dim=1)
    if 'fc_norm.weight' in weights:
        pooled = F.layer_norm(pooled, width, weights['fc_norm.weight'], weights['fc_norm.bias'], eps=1e-6)
    if 'head_norm.running_mean' in weights:
        pooled = F.batch_norm(pooled, weights['head_norm.running_mean'], weights['head_norm.running_var'], eps=1e-6)
    return F.linear(pooled, weights['head.weight'], weights['head.bias'])
