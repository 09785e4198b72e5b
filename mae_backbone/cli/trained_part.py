"""The options `--freeze` and `--lora` of a training, written into the config."""
from mmengine.config import Config, ConfigDict

from mae_backbone.core.vit import find_arch


def set_trained_part(cfg: Config, *, freeze: int | str | None, lora: int | None) -> None:
    """Writes which weights of the encoder are trained into the config.

    Args:
        cfg: changed in place.
        freeze: number of first blocks that are frozen with the patch embedding, or 'all'; None for the config's.
        lora: rank of adapters of the frozen encoder; None for the config's.

    Raises:
        ValueError: the model has fewer blocks, is a probe, or is a model of timm.
    """
    if freeze is None and lora is None:
        return
    backbone = cfg.model.backbone
    is_timm = str(backbone.get('type')).endswith('TimmViT')
    if is_timm and (lora is not None or freeze == 'all'):
        raise ValueError('--lora and --freeze all are for mae_backbone.ViTBackbone, and the config has a model of '
                         'timm: pass --freeze with its number of blocks')
    classifies = str(cfg.model.get('type')).endswith('ViTClassifier')
    if cfg.model.get('probe'):
        raise ValueError('--freeze and --lora: the config has probe=True, which trains only the head: take another '
                         'config')
    for key in ('frozen_stages', 'lora'):
        backbone.pop(key, None)
    if classifies:
        cfg.model.pop('tuned_blocks', None)
    if lora is not None:
        backbone.lora = ConfigDict(rank=lora)
        return
    depth = 0 if is_timm else find_arch(backbone.get('arch', 'base')).depth
    blocks = depth if freeze == 'all' else int(freeze or 0)
    if not is_timm and blocks > depth:
        raise ValueError(f'--freeze {blocks}: the encoder has {depth} blocks')
    if classifies and not is_timm:
        cfg.model.tuned_blocks = depth - blocks
    else:
        backbone.frozen_stages = blocks
