"""Warns about settings of a config that do not fit the images of the user: normalization, crops and anchors.

A setting that was made for another data set does not make a run fail, but the results are worse. Each warning names the
options to use instead. The warnings are computed from a sample of the images (`image_sample`) and from all boxes.
"""
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config

from mae_backbone.checkpoints.source import read_facts
from mae_backbone.checkpoints.unseen import same_pixels
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.registry import formats_in
from mae_backbone.formats.unlabeled import UnlabeledImages
from mae_backbone.planning.anchors import anchor_warning
from mae_backbone.planning.image_sample import BoxSizes, ImageSample, box_sizes, sample_images
from mae_backbone.planning.pixel_normalization import FROM_CHECKPOINT
from mae_backbone.planning.resizing import resized

# Limits for the mean (offset) and the standard deviation (ratio) of images after normalization with the values of the
# config. They are 0 and 1 if the values fit. With the values of ImageNet, photographs are within these limits: the
# darkest public data set that we know, Cityscapes, has an offset of 0.87 and a ratio of 0.82, and CamVid has 0.33 and
# 1.34. Fluorescence images of nuclei have an offset of 1.5.
MAX_OFFSET, MAX_RATIO = 1.0, 2.0
# Largest factors by which images are reduced, in general and for inputs of less than _SMALL pixels. A reduction removes
# details that are smaller than the factor. To get 224 pixels, photographs of ImageNet are reduced by 1.5 and images of
# cameras by 12, and their objects are still recognized. Small inputs show parts of objects, whose texture a strong
# reduction removes. Crops of the demo configs are reduced by up to 4. The limits are our choices.
_MAX_REDUCTION, _MAX_REDUCTION_SMALL, _SMALL = 16.0, 6.0, 128
_MAX_ENLARGEMENT = 4.0  # above this factor, a patch of 16 pixels shows fewer than 4 x 4 pixels of the image
MAX_CUT = 0.1          # largest fraction of objects that are larger than a crop. It is at most 0.02 in our demo sets
# Smallest fraction of the area of the median image that a crop shows. It is 0.21 for CamVid, 0.28 for Cityscapes and 1
# for ADE20K.
_MIN_SHOWN = 0.04


class _Context(NamedTuple):
    """A training set with its measurements, and the key of its settings in the config."""

    cfg: Config
    data_format: DataFormat
    path: str  # key of the data set in the config, such as 'train_dataloader.dataset'
    images: ImageSample
    boxes: BoxSizes | None

    @property
    def split_pipeline(self) -> list[dict]:
        """Steps of the pipeline of the data set."""
        return list(self.data_format.spec.option('pipeline') or [])


def setting_warnings(cfg: Config) -> list[str]:
    """Measures the training sets of a config, and returns a warning for each setting that does not fit them.

    Data sets that cannot be read or have an unknown format are skipped. `check_data` reports them.

    Args:
        cfg: config of MMEngine's Runner, after `adapt_classes`.
    """
    warnings: list[str] = []
    for data_format in formats_in(cfg, ['train']):
        if not data_format.spec.is_local:
            continue
        images, path = sample_images(data_format), _path_of(cfg, data_format.spec.cfg)
        if images is not None:
            context = _Context(cfg, data_format, path, images, box_sizes(data_format))
            warnings += [*_pixel_warning(context), *_size_warning(context), *_crop_warning(context),
                         *_anchor_warning(context)]
    return [f'warning: {line}' for line in dict.fromkeys(warnings)]


# ---- mean and standard deviation

def _pixel_warning(context: _Context) -> Iterator[str]:
    key, preprocessor = _preprocessor(context.cfg)
    if FROM_CHECKPOINT in (preprocessor.get('mean'), preprocessor.get('std')) or _belongs_to_weights(context.cfg):
        return
    mean, std = (np.array(preprocessor.get(name) or [], float) for name in ('mean', 'std'))
    images, channels = context.images, len(context.images.mean)
    if not mean.size or mean.size != std.size or mean.size not in (1, channels):
        return
    # Readers return RGB. Pipelines of mmdet and mmseg load BGR, which the preprocessor may convert.
    is_bgr = isinstance(context.data_format, (CocoFormat, LabelMaps))
    is_turned = bool(preprocessor.get('bgr_to_rgb') or preprocessor.get('rgb_to_bgr'))
    order = slice(None, None, -1) if is_bgr != is_turned and channels == 3 else slice(None)
    own_mean, own_std = images.mean[order], images.std[order]
    offset = (np.abs(own_mean - mean) / std).max()
    ratio = own_std / std
    # A channel with a single value, such as an empty band, has a standard deviation of 0 and is not compared.
    spread = np.maximum(ratio, 1 / np.maximum(ratio, 1e-9))[own_std > 0]
    if offset <= MAX_OFFSET and (not spread.size or spread.max() <= MAX_RATIO):
        return
    root = _folder(context.data_format)
    is_part = len(images.sizes) < images.num_images and root and channels == 3
    more = f' (`mae-backbone measure {root}` reads more)' if is_part else ''
    yield (f'mean and std of the config do not fit the images: {_numbers(mean)} and {_numbers(std)}, but '
           f'{len(images.sizes)} sampled images have {_numbers(own_mean)} and {_numbers(own_std)}{more}. Normalized '
           f'images would have a mean of {_worst(own_mean - mean, std):.1f} instead of 0 and a deviation of '
           f'{ratio[np.argmax(np.abs(np.log(np.maximum(ratio, 1e-9))))]:.1f} instead of 1. Write --cfg-options '
           f'{key}.mean={_listed(own_mean)} {key}.std={_listed(np.maximum(own_std, 1.0))}, unless the encoder was '
           'pretrained with the values of the config')


def _preprocessor(cfg: Config) -> tuple[str, dict]:
    """Returns the key and the settings of the data preprocessor."""
    own = (cfg.get('model') or {}).get('data_preprocessor')
    return ('model.data_preprocessor', own) if own else ('data_preprocessor', cfg.get('data_preprocessor') or {})


def _belongs_to_weights(cfg: Config) -> bool:
    """True if the encoder starts from weights that were trained with the normalization of the config."""
    owner = cfg.model if cfg.model.get('encoder') else cfg.model.get('backbone') or {}
    weights = owner.get('init_cfg') or {}
    path = weights.get('checkpoint')
    if not path or not os.path.exists(str(path)):
        return False
    try:
        facts, preprocessor = read_facts(path, weights.get('weights_key')), _preprocessor(cfg)[1]
    except (ValueError, OSError):  # the training will report this error
        return False
    return bool(facts.mean is not None and facts.std is not None and preprocessor.get('mean') and same_pixels(
        (facts.mean, facts.std), (preprocessor['mean'], preprocessor['std'])))


def _worst(difference: np.ndarray, std: np.ndarray) -> float:
    """Returns the element of difference / std that is furthest from 0."""
    offsets = difference / std
    return float(offsets[np.abs(offsets).argmax()])


def _folder(data_format: DataFormat) -> str:
    """Returns the folder of the images, for `mae-backbone measure`; '' if the images are not in a single folder."""
    spec = data_format.spec
    if isinstance(data_format, CocoFormat):
        return spec.folder('img')
    if isinstance(data_format, LabelMaps):
        return spec.folder('img_path')
    if isinstance(data_format, ClassFolders):
        return str(data_format.folder) if data_format.labeled.shards is None and data_format.folder.is_dir() else ''
    root = spec.option('data_root')
    return root if isinstance(root, str) and not spec.option('reader') else ''


# ---- size of the model's input

def _size_warning(context: _Context) -> Iterator[str]:
    """Warns if crops of a pretraining, or images of a classification, are reduced or enlarged too much."""
    data_format = context.data_format
    if not isinstance(data_format, (UnlabeledImages, ClassFolders)):
        return
    is_pretraining = isinstance(data_format, UnlabeledImages)
    size, scale = data_format.spec.option('image_size'), data_format.spec.option('scale') if is_pretraining else (1, 1)
    if not _are_positive(size) or not _are_positive(scale) or not isinstance(scale, (list, tuple)) or len(scale) != 2:
        return  # the data set will report this error
    side = math.sqrt(math.prod(size)) if isinstance(size, (list, tuple)) else float(size)
    area = float(np.median(context.images.sizes.prod(axis=1)))
    low, high = scale
    reduction = math.sqrt(area * (low + high) / 2) / side
    largest = _MAX_REDUCTION_SMALL if side < _SMALL else _MAX_REDUCTION
    height, width = np.median(context.images.sizes, axis=0).round().astype(int).tolist()
    inputs = f'crops of {low:g} to {high:g} of the area of an image' if is_pretraining else 'images'
    if reduction > largest:
        advice = f'{_image_size_options(context, side * reduction / largest)} for a larger input'
        if is_pretraining:
            # Crops between the size of the input and twice its size.
            low, high = (float(f'{min(1.0, factor * side ** 2 / area):.2g}') for factor in (1.0, 4.0))
            advice = f'{context.path}.scale=({low:g},{high:g}) for smaller crops, or --cfg-options {advice}'
        yield (f'{inputs} are reduced by {reduction:.0f} to {side:.0f} pixels (median image {height}x{width}, expected '
               f'at most {largest:.0f}): detail is lost. Write --cfg-options {advice}')
    elif is_pretraining and 1 / reduction > _MAX_ENLARGEMENT:
        yield (f'{inputs} are enlarged by {1 / reduction:.0f} to {side:.0f} pixels (median image {height}x{width}, '
               f'expected at most {_MAX_ENLARGEMENT:.0f}), which costs time and adds no detail. Write --cfg-options '
               f'{_image_size_options(context, side * reduction)}')


def _are_positive(values: Any) -> bool:
    values = values if isinstance(values, (list, tuple)) else [values]
    return bool(values) and all(isinstance(value, (int, float)) and value > 0 for value in values)


def _image_size_options(context: _Context, side: float) -> str:
    """Returns --cfg-options that set height and width of the input to `side` pixels, rounded up to whole patches."""
    model = context.cfg.model
    name = 'encoder' if 'encoder' in model else 'backbone'
    patch = (model.get(name) or {}).get('patch_size') or 16
    size = max(2, math.ceil(side / patch)) * patch
    others = [f'{split}_dataloader.dataset' for split in ('val', 'test')
              if 'image_size' in ((context.cfg.get(f'{split}_dataloader') or {}).get('dataset') or {})]
    return ' '.join(f'{key}.image_size={size}' for key in (context.path, *others, f'model.{name}'))


# ---- crops of detection and segmentation

def _crop_warning(context: _Context) -> Iterator[str]:
    pipeline = context.split_pipeline
    index, size = _crop_of(pipeline)
    if size is None:
        return
    key, before = f'{context.path}.pipeline.{index}.crop_size', pipeline[:index]
    if context.boxes is not None:
        boxes = resized(context.boxes.boxes, context.boxes.images, before)
        if boxes is None:
            return
        cut = float((boxes > np.array(size)).any(axis=1).mean())
        if cut > MAX_CUT:
            side = _multiple_above(np.percentile(boxes.max(axis=1), 95))
            yield (f'{cut:.0%} of the objects are larger than the crops of {size[0]}x{size[1]} pixels in training '
                   f'(expected at most {MAX_CUT:.0%}; 95 % of the objects measure up to '
                   f'{np.percentile(boxes.max(axis=1), 95):.0f} pixels): no crop shows them as a whole. Write '
                   f'--cfg-options "{key}=({side},{side})", or resize the images')
        return
    images = resized(context.images.sizes, context.images.sizes, before)
    if images is None:
        return
    area = float(np.median(images.prod(axis=1)))
    if math.prod(size) < _MIN_SHOWN * area:
        side = _multiple_above(math.sqrt(_MIN_SHOWN * area))
        yield (f'crops of {size[0]}x{size[1]} pixels show {math.prod(size) / area:.1%} of a median image in training '
               f'(expected at least {_MIN_SHOWN:.0%}): too little to recognize classes by their surroundings. Write '
               f'--cfg-options "{key}=({side},{side})", or resize the images')


def _crop_of(pipeline: Sequence[dict]) -> tuple[int, tuple[int, int] | None]:
    """Returns the index and (height, width) in pixels of the random crop of a pipeline; 0 and None without a crop."""
    for index, step in enumerate(pipeline):
        size = step.get('crop_size')
        if str(step.get('type')).split('.')[-1] == 'RandomCrop' and not str(step.get('crop_type')).startswith('rel'):
            sides = [size, size] if isinstance(size, int) else list(size or ())
            return index, (int(sides[0]), int(sides[1])) if _are_positive(sides) and len(sides) == 2 else None
    return 0, None


def _multiple_above(side: float, divisor: int = 64) -> int:
    """Rounds up to a multiple of `divisor`. The default is a multiple of the padding in all our configs."""
    return math.ceil(side / divisor) * divisor


# ---- anchors

def _anchor_warning(context: _Context) -> Iterator[str]:
    if context.boxes is None:
        return
    boxes = resized(context.boxes.boxes, context.boxes.images, context.split_pipeline)
    if boxes is None:
        return
    model = context.cfg.get('model') or {}
    for head in ('rpn_head', 'bbox_head'):
        settings = model.get(head) if isinstance(model.get(head), dict) else None
        generator = (settings or {}).get('anchor_generator')
        if isinstance(generator, dict):
            line = anchor_warning(generator, f'model.{head}.anchor_generator', boxes)
            yield from [line] if line else []


# ---- words

def _path_of(cfg: Config, dataset: dict) -> str:
    """Returns the key of a training set in the config, such as 'train_dataloader.dataset.dataset'."""
    def search(node: Any, path: str) -> str | None:
        if node is dataset:
            return path
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        return next((hit for key, child in children if (hit := search(child, f'{path}.{key}'))), None)
    return search(cfg.train_dataloader.dataset, 'train_dataloader.dataset') or 'train_dataloader.dataset'


def _numbers(values: np.ndarray) -> str:
    return ', '.join(f'{value:.0f}' for value in values)


def _listed(values: np.ndarray) -> str:
    return '[' + ','.join(f'{value:.1f}' for value in values) + ']'
