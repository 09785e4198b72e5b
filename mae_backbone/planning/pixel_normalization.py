"""Compares the normalization of the pixels in a config with the normalization of pretrained weights."""
from pathlib import Path

from mmengine.config import Config

from mae_backbone.checkpoints.facts import Facts
from mae_backbone.checkpoints.source import open_source, read_facts
from mae_backbone.checkpoints.unseen import pixels_of, same_pixels
from mae_backbone.planning.timm_backbone import build_empty

FROM_CHECKPOINT = 'checkpoint'  # value of mean and std in a config: the values are read from the weights


def check_pixels(cfg: Config, path: str | Path | None, *, key: str | None = None,
                 compare: bool = True) -> list[str]:
    """Sets mean and std of the data preprocessor from the checkpoint, or compares them with the checkpoint.

    They are set if the config has `data_preprocessor=dict(mean='checkpoint', std='checkpoint')`. Otherwise they are
    compared, and a difference gives a warning.

    Args:
        cfg: config, changed in place.
        path: path of the weights; None if there are none.
        key: key of the weights in the file, as for `open_source`.
        compare: False to skip the comparison, if the config is known to belong to the weights.

    Returns:
        Lines for the plan.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: the config takes the normalization from the checkpoint, which does not state it.
    """
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    left = FROM_CHECKPOINT in (preprocessor.get('mean'), preprocessor.get('std'))
    backbone = cfg.model.get('backbone') or {} if left else {}
    if left and str(backbone.get('type')).endswith('TimmViT'):
        options = {name: value for name, value in backbone.items() if name not in ('type', 'name')}
        vit = build_empty(backbone['name'], options)
        preprocessor.update(mean=list(vit.mean), std=list(vit.std))
        return [f'pixels: mean {list(vit.mean)}, std {list(vit.std)}, stated by timm for {vit.name}: '
                'data_preprocessor follows']
    if path is None:
        if left:
            raise ValueError("data_preprocessor.mean='checkpoint' takes the normalization of the pixels from the "
                             'weights, but there are none: pass --pretrained, or set mean and std')
        return []
    if not left and not compare:
        return []
    facts = _facts(cfg, path, key)
    if left:
        if facts.mean is None or facts.std is None:
            raise ValueError(f"data_preprocessor.mean='checkpoint' takes the normalization of the pixels from the "
                             f'weights, but {path} does not state it: set mean and std, on the scale of 0 to 255')
        preprocessor.update(mean=list(facts.mean), std=list(facts.std))
        return [f'{pixels_of(facts)}: data_preprocessor follows']
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if facts.mean is None or facts.std is None or not mean or not std or same_pixels(
            (facts.mean, facts.std), (mean, std)):
        return []
    return [f'warning: {path} was trained on pixels with another normalization ({pixels_of(facts)}), data_preprocessor '
            f'has mean {list(mean)}, std {list(std)}: set them to the same, or to \'checkpoint\'']


def _facts(cfg: Config, path: str | Path, key: str | None) -> Facts:
    """Returns the facts that the weights state. For our ViT, raises an error if it cannot load the weights."""
    if str((cfg.model.get('backbone') or {}).get('type')).endswith('TimmViT'):
        return read_facts(path, key)
    return open_source(path, key, outline=True).facts
