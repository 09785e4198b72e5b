"""Test-time augmentation: flipped and resized views of each image, merged into one prediction."""
import copy
import importlib
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from mae_backbone.formats.dataset_spec import dataset_specs

# For each default scope: type of the model that merges the views, and the package that registers it.
_MERGERS = {'mmdet': ('DetectionTTA', 'mae_backbone.detection'),
            'mmseg': ('SegmentationTTA', 'mae_backbone.segmentation')}


def use_tta(cfg: Config) -> str:
    """Adds test-time augmentation to the model and the test pipeline of a config. Returns a line for the plan.

    The config may have `tta = dict(ratios=(0.75, 1.0, 1.25), flip=True)`. `ratios` are image sizes relative to the test
    pipeline. With `flip`, each view is also flipped horizontally. The default is ratio 1.0 with flips. If the config
    has `tta_pipeline` and `tta_model` of MMEngine, these are used instead.

    Raises:
        ValueError: views of this model cannot be merged, or the resizing of its pipeline is not supported.
    """
    if 'tta_model' not in cfg:
        scope = cfg.get('default_scope')
        if scope not in _MERGERS:
            raise ValueError('--tta is for detectors and segmenters (default_scope mmdet or mmseg); this config has '
                             f'{scope!r}: remove --tta')
        name, package = _MERGERS[scope]
        importlib.import_module(package)
        cfg.tta_model = ConfigDict(type=f'mae_backbone.{name}')
    settings = cfg.get('tta') or {}
    unknown = sorted(set(settings) - {'ratios', 'flip'})
    if unknown:
        raise ValueError(f'tta.{unknown[0]} does not exist: expected tta.ratios or tta.flip')
    ratios, flip = settings.get('ratios', [1.0]), settings.get('flip', True)
    if not isinstance(ratios, (list, tuple)) or not ratios or not all(isinstance(ratio, (int, float)) and ratio > 0
                                                                      for ratio in ratios):
        raise ValueError(f'tta.ratios is {ratios!r}: expected a list of numbers above 0, such as [0.75,1.0,1.25]')
    cfg.test_dataloader = copy.deepcopy(cfg.test_dataloader)  # val_dataloader may be the same object
    for spec in dataset_specs(cfg, 'test'):
        spec.cfg.pipeline = cfg.get('tta_pipeline') or views(spec.cfg.pipeline, ratios, flip)
        count = len(spec.cfg.pipeline[-1]['transforms'])
    if 'tta_pipeline' in cfg:
        return f'test-time augmentation: the {count} lists of tta_pipeline'
    return (f'test-time augmentation: sizes x {", ".join(f"{ratio:g}" for ratio in ratios)}'
            + ', each also flipped' * flip)


def views(pipeline: Sequence[dict], ratios: Sequence[float], flip: bool) -> list[dict]:
    """Converts a test pipeline to a pipeline with several views of an image.

    Args:
        pipeline: test pipeline.
        ratios: one view for each of these image sizes, relative to the test pipeline.
        flip: add a horizontally flipped view for each ratio.

    Raises:
        ValueError: the step that resizes images has neither `scale` nor `scale_factor`.
    """
    steps = [copy.deepcopy(dict(step)) for step in pipeline]
    by_name = {step['type'].split('.')[-1]: step for step in steps}
    # Annotations are loaded after resizing, so that they are not resized.
    annotations = [[by_name['LoadAnnotations']]] if 'LoadAnnotations' in by_name else []
    pack = steps[-1]
    if 'meta_keys' in pack:
        pack['meta_keys'] = tuple(dict.fromkeys((*pack['meta_keys'], 'flip', 'flip_direction')))
    resize = by_name.get('Resize', dict(type='Resize', scale_factor=1.0, keep_ratio=True))
    flips = [dict(type='RandomFlip', prob=0.0)] + [dict(type='RandomFlip', prob=1.0)] * flip
    others = [[step] for step in steps[1:-1] if step is not resize and step is not by_name.get('LoadAnnotations')]
    sizes = [_scale(resize, ratio) for ratio in ratios]
    return [steps[0], dict(type='TestTimeAug', transforms=[sizes, flips, *others, *annotations, [pack]])]


def _scale(resize: dict, ratio: float) -> dict:
    if isinstance(resize.get('scale'), (tuple, list)):
        return resize | {'scale': tuple(max(1, round(side * ratio)) for side in resize['scale'])}
    if isinstance(resize.get('scale_factor'), (int, float)):
        return resize | {'scale_factor': resize['scale_factor'] * ratio}
    raise ValueError(f'the test pipeline resizes by {resize}, --tta expects scale=(width, height) or a scale_factor: '
                     'change it, or add a tta_pipeline to the config')
