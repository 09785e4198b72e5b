"""The options of pretrained weights, written into the config."""
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mae_backbone.planning.pixel_normalization import check_pixels


def set_weights(cfg: Config, path: str | None, *, key: str | None = None, heads: int | None = None) -> list[str]:
    """Writes `--pretrained` into the config, and compares the normalization of the pixels; returns lines for the plan.

    Call it after `--resume` was written into the config: a run that is resumed takes its weights from its checkpoint.

    Args:
        cfg: changed in place.
        path: of `--pretrained`; None for the weights that the config names.
        key, heads: of `--weights-key` and `--weights-heads`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an option without `--pretrained`, or weights that cannot be read.
    """
    if path is None and (key is not None or heads is not None):
        raise ValueError('--weights-key and --weights-heads describe the file of --pretrained: pass --pretrained too')
    if path is not None:
        options = {name: value for name, value in (('weights_key', key), ('heads', heads)) if value is not None}
        cfg.model.backbone.init_cfg = ConfigDict(type='Pretrained', checkpoint=path, **options)
    if cfg.get('resume'):
        return check_pixels(cfg, cfg.load_from, compare=False)
    if path is not None and str(cfg.model.backbone.get('type')).endswith('TimmViT') and not Path(path).exists():
        path = None  # the name of weights that timm downloads
    return check_pixels(cfg, path, key=key)
