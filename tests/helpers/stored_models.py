"""Checkpoint files of small models, with the config that a run of this package writes into them."""
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mae_backbone.checkpoints.conversion.convert import Conversion
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.pretrainer import MAEPretrainer

TINY = dict(arch=dict(width=32, depth=2, heads=4), image_size=32, patch_size=8)
DECODER = dict(decoder_width=16, decoder_depth=1, decoder_heads=2)
PIXELS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
WINDOWED = dict(arch=dict(width=32, depth=3, heads=2), image_size=64, pretrain_image_size=32, patch_size=8,
                window_size=3, global_blocks=[2], relative_positions=True)


def print_rows(target: str, model: str, conversion: Conversion) -> None:
    """Prints rows of the table in docs/weights.md."""
    verification = conversion.verification
    for output, value in verification.differences.items():
        print(f'| --to {target}, {model}, {output} | {verification.library.split()[0]} | {value:.1e} |')


def randomize(model: nn.Module) -> nn.Module:
    """No weight keeps its initial value, not even those that start at zero or one."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def save(path: Path, model: nn.Module, config: dict[str, Any], **meta: Any) -> Path:
    """A checkpoint as MMEngine's Runner writes it."""
    text = f'model = {config!r}\ntrain_dataloader = dict(batch_size=8, dataset=dict(data_root="/private/plants"))\n'
    content = dict(state_dict=model.state_dict(), meta=dict(
        epoch=1, iter=2, cfg=text, experiment_name='mae_tiny_20250101_120000', **meta))
    torch.save(content, path)
    return path


def mae(path: Path, *, encoder: dict | None = None, **options: Any) -> Path:
    """A run of `mae-backbone pretrain`."""
    options = dict(encoder=TINY | (encoder or {}), **DECODER | options)
    model = randomize(MAEPretrainer(**options))
    for table in (model.mae.encoder.pos_embed, model.mae.decoder.decoder_pos_embed):
        table.data[:, 0] = 0  # of the class token, as sin-cos positions have it
    return save(path, model, dict(type='mae_backbone.MAEPretrainer', data_preprocessor=dict(
        type='mae_backbone.PixelPreprocessor', **PIXELS), **options))


def classifier(path: Path, **options: Any) -> Path:
    """A run of `mae-backbone train` with a classifier of five classes."""
    options = dict(num_classes=5, **options)
    model = randomize(ViTClassifier(dict(TINY), **options))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return save(path, model, dict(type='mae_backbone.ViTClassifier', backbone=dict(TINY), **options),
                dataset_meta=dict(classes=['oak', 'fir', 'ash', 'elm', 'yew']))


def backbone(path: Path, prefix: str = 'backbone.', others: dict | None = None, **options: Any) -> Path:
    """A backbone as a detector or segmenter has it, with other tensors next to it."""
    model = randomize(ViTBackbone(**TINY | options))
    config = dict(type='MaskRCNN', backbone=dict(type='mae_backbone.ViTBackbone', **TINY | options))
    weights = {prefix + name: value for name, value in model.state_dict().items()} | (others or {})
    torch.save(dict(state_dict=weights, meta=dict(cfg=f'model = {config!r}\n')), path)
    return path
