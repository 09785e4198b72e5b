"""Test-time augmentation: several views of each image, flipped and at several sizes, merged into one prediction."""
import copy
import importlib
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from mae_backbone.formats.dataset_spec import dataset_specs

# What merges the views, and the folder that registers it, by the scope of a config.
_MERGED_BY = {'mmdet': ('DetectionTTA', 'mae_backbone.detection'),
              'mmseg': ('SegmentationTTA', 'mae_backbone.segmentation')}


def use_tta(cfg: Config) -> str:
    """Puts test-time augmentation into what a config tests and predicts with; returns a line for the plan.

    The config says in `tta = dict(ratios=(0.75, 1.0, 1.25), flip=True)` at which sizes an image is looked at, in
    relation to the one of the test pipeline, and whether mirrored too; without it that is the size of the test
    pipeline, mirrored. A config with mmengine's `tta_pipeline` and `tta_model` is taken as it is.

    Raises:
        ValueError: a model that has no merging, or a pipeline whose sizes are not understood.
    """
    if 'tta_model' not in cfg:
        scope = cfg.get('default_scope')
        if scope not in _MERGED_BY:
            raise ValueError('--tta is for detectors and segmenters (default_scope mmdet or mmseg); this config has '
                             f'{scope!r}: leave --tta out')
        name, folder = _MERGED_BY[scope]
        importlib.import_module(folder)
        cfg.tta_model = ConfigDict(type=f'mae_backbone.{name}')
    settings = cfg.get('tta') or {}
    ratios, flip = settings.get('ratios', [1.0]), settings.get('flip', True)
    if not isinstance(ratios, (list, tuple)) or not ratios or not all(isinstance(r, (int, float)) and r > 0
                                                                      for r in ratios):
        raise ValueError(f'tta.ratios is {ratios!r}: wanted a list of numbers above 0, such as [0.75,1.0,1.25]')
    cfg.test_dataloader = copy.deepcopy(cfg.test_dataloader)  # that of the validation may be the same
    for spec in dataset_specs(cfg, 'test'):
        spec.cfg.pipeline = cfg.get('tta_pipeline') or views(spec.cfg.pipeline, ratios, flip)
        count = len(spec.cfg.pipeline[-1]['transforms'])
    if 'tta_pipeline' in cfg:
        return f'test-time augmentation: the {count} lists of tta_pipeline'
    return (f'test-time augmentation: sizes x {", ".join(f"{ratio:g}" for ratio in ratios)}'
            + ', each mirrored too' * flip)


def views(pipeline: Sequence[dict], ratios: Sequence[float], flip: bool) -> list[dict]:
    """A test pipeline -> one that gives a view for each ratio, and for each the mirrored one.

    Raises:
        ValueError: a step that resizes otherwise than by `scale` or `scale_factor`.
    """
    steps = [copy.deepcopy(dict(step)) for step in pipeline]
    named = {step['type'].split('.')[-1]: step for step in steps}
    annotations = [[named['LoadAnnotations']]] if 'LoadAnnotations' in named else []  # late, so that they stay
    pack = steps[-1]
    if 'meta_keys' in pack:
        pack['meta_keys'] = tuple(dict.fromkeys((*pack['meta_keys'], 'flip', 'flip_direction')))
    resize = named.get('Resize', dict(type='Resize', scale_factor=1.0, keep_ratio=True))
    flips = [dict(type='RandomFlip', prob=0.0)] + [dict(type='RandomFlip', prob=1.0)] * flip
    others = [[step] for step in steps[1:-1] if step is not resize and step is not named.get('LoadAnnotations')]
    sizes = [_scaled(resize, ratio) for ratio in ratios]
    return [steps[0], dict(type='TestTimeAug', transforms=[sizes, flips, *others, *annotations, [pack]])]


def _scaled(resize: dict, ratio: float) -> dict:
    if isinstance(resize.get('scale'), (tuple, list)):
        return resize | {'scale': tuple(max(1, round(side * ratio)) for side in resize['scale'])}
    if isinstance(resize.get('scale_factor'), (int, float)):
        return resize | {'scale_factor': resize['scale_factor'] * ratio}
    raise ValueError(f'the test pipeline resizes by {resize}: for --tta it wants scale=(width, height) or a '
                     'scale_factor, or the config a tta_pipeline')
