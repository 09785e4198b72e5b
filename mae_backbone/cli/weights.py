"""The options of pretrained weights, written into the config."""
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mae_backbone.planning.pixel_normalization import check_pixels
from mae_backbone.utils.config_files import is_checkpoint


def set_weights(cfg: Config, path: str | None, *, key: str | None = None, heads: int | None = None) -> list[str]:
    """Writes `--pretrained` into the config, and compares the normalization of the pixels; returns lines for the plan.

    A detector, segmenter or classifier takes the encoder of the file. A pretraining also uses its decoder. Call this
    after `--resume` was written into the config: a run that is resumed takes its weights from its checkpoint.

    Args:
        cfg: changed in place.
        path: path of `--pretrained`; None for the weights of the config.
        key, heads: values of `--weights-key` and `--weights-heads`.

    Raises:
        FileNotFoundError: the file, or the file of weights in the config, does not exist.
        ValueError: an option without `--pretrained`, or weights that cannot be read.
    """
    if path is None and (key is not None or heads is not None):
        raise ValueError('--weights-key and --weights-heads describe the file of --pretrained: pass --pretrained too')
    pretraining = cfg.model.get('type') == 'mae_backbone.MAEPretrainer'
    if path is not None:
        options = {name: value for name, value in (('weights_key', key), ('heads', heads)) if value is not None}
        owner = cfg.model if pretraining else cfg.model.backbone
        owner.init_cfg = ConfigDict(type='Pretrained', checkpoint=path, **options)
    if cfg.get('resume'):
        lines = check_pixels(cfg, cfg.load_from, compare=False)
        if pretraining and cfg.model.get('init_cfg'):
            lines.append(f'the weights are from {cfg.load_from}, not from {cfg.model.init_cfg.checkpoint}, which the '
                         'run started from')
            cfg.model.init_cfg = None
        return lines
    if path is None:
        _check_weights_of_config(cfg)
    if not pretraining and path is not None and not Path(path).exists() and str(
            cfg.model.backbone.get('type')).endswith('TimmViT'):
        path = None  # the name of weights that timm downloads
    lines = check_pixels(cfg, path, key=key)
    if pretraining and path is not None:
        lines.append(f'starts from the weights of {path}, at iteration 0 of the schedule of this config')
    return lines


def _check_weights_of_config(cfg: Config) -> None:
    """Raises FileNotFoundError if the config starts from a checkpoint that does not exist."""
    init = (cfg.model.get('backbone') or {}).get('init_cfg') or cfg.model.get('init_cfg') or {}
    path = init.get('checkpoint') if isinstance(init, dict) else None
    if not path or '://' in path or not is_checkpoint(path) or Path(path).exists():
        return
    first = 'run the pretraining that writes it'
    if cfg.filename:  # `mae-backbone plan` writes the config of the pretraining next to the config of the task
        written = Path(cfg.filename).with_name(f'{Path(path).parent.name}.py')
        first = f'run `mae-backbone pretrain {written}` first' if written.is_file() else first
    raise FileNotFoundError(f'checkpoint {path}, from which the config starts, does not exist: {first}, or pass other '
                            'weights with --pretrained')
