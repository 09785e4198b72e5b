"""Options for the best checkpoint of a training and for early stopping."""
from typing import Any

from mmengine.config import Config


def keep_best(cfg: Config, patience: int | None = None) -> list[str]:
    """Keeps the best checkpoint of a training with several validations, and stops it early if there is a patience.

    Args:
        cfg: config of the training, with its final length; it is changed.
        patience: validations without improvement after which the training stops; None for no early stopping.

    Returns:
        Lines for the plan.

    Raises:
        ValueError: with a patience, the metric is unknown, or there are too few validations to stop early.
    """
    validations, hook = num_validations(cfg), (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(hook, dict) and not hook.get('save_best') and validations > 1:
        name = main_metric(cfg)
        hook.update({} if name is None else dict(save_best=name, rule='greater'))
    name = hook.get('save_best') if isinstance(hook, dict) else None
    name = name[0] if isinstance(name, (list, tuple)) and name else name
    if patience is None:
        return [f'best checkpoint: by {name} of {validations} validations'] if name and validations > 1 else []
    if not isinstance(name, str) or name == 'auto':
        name = main_metric(cfg)
    if name is None:
        raise ValueError('--patience: the metric of the validation is unknown. Set '
                         'default_hooks.checkpoint.save_best to its name, such as coco/bbox_mAP')
    if validations <= patience:
        length, key = _length(cfg)
        interval, now = max(1, length // (4 * patience)), cfg.train_cfg.get('val_interval', 1)
        advice = (f'Validate more often, such as --cfg-options train_cfg.val_interval={interval}' if interval < now else
                  f'Train for more than {patience * now:,} {key}')
        raise ValueError(f'--patience {patience} has no effect: the training validates {validations} times, every '
                         f'{now:,} of {length:,} {key}. {advice}, or remove --patience')
    rule = dict(rule=hook['rule']) if isinstance(hook, dict) and isinstance(hook.get('rule'), str) else {}
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'early_stopping': dict(
        type='mae_backbone.EarlyStopHook', monitor=name, patience=patience, **rule)}
    return [f'early stopping: after {patience} of {validations} validations without a better {name}, whose best '
            'checkpoint is kept']


def main_metric(cfg: Config) -> str | None:
    """Returns the metric that selects the best checkpoint, from the first evaluator of the validation, or None."""
    evaluators = cfg.get('val_evaluator')
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        if isinstance(evaluator, dict):
            name = _metric_of(str(evaluator.get('type')).rpartition('.')[2], evaluator)
            if name is not None:
                return name
    return None


def _metric_of(kind: str, evaluator: dict) -> str | None:
    """Returns the main metric of an evaluator of the type `kind`, such as 'mIoU'; None if the type is unknown."""
    kinds = _listed(evaluator.get('metric', 'bbox'))
    boxes = next((name for name in ('bbox', 'segm') if name in kinds), None)
    names: dict[str, str | None] = {
        'CocoMetric': boxes and f'coco/{boxes}_{_first(evaluator.get("metric_items"), "mAP")}',
        'LVISMetric': boxes and f'lvis/{boxes}_AP',
        'VOCMetric': None if evaluator.get('metric', 'mAP') != 'mAP' else 'pascal_voc/mAP',
        'IoUMetric': _first(evaluator.get('iou_metrics'), 'mIoU'),
        'TopKAccuracy': f'accuracy/top{_first(evaluator.get("topk"), 1, among=False)}'}
    name, prefix = names.get(kind), evaluator.get('prefix')
    return name if name is None or not prefix else f'{prefix}/{name.rpartition("/")[2]}'


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _first(values: Any, usual: Any, *, among: bool = True) -> Any:
    """The first of the metrics that an evaluator computes; with `among`, the usual one if it is one of them."""
    values = [usual] if values is None else _listed(values) or [usual]
    return usual if among and usual in values else values[0]


def num_validations(cfg: Config) -> int:
    """Number of validations of a training; 0 if there are none."""
    if not cfg.get('val_evaluator') or not cfg.get('val_dataloader'):
        return 0
    length, _ = _length(cfg)
    begin, interval = cfg.train_cfg.get('val_begin', 1), cfg.train_cfg.get('val_interval', 1)
    due = [at for at in range(interval, length, interval) if at >= begin]
    return len(due) + (length >= begin)  # and one at the end


def _length(cfg: Config) -> tuple[int, str]:
    """Length of the training, and its unit."""
    key = 'max_epochs' if cfg.train_cfg.get('max_epochs') else 'max_iters'
    return cfg.train_cfg[key], key.removeprefix('max_')
