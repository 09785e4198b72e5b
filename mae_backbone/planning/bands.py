"""Adapts a config to a reader of images: loading, augmentations, and channels and normalization of the model.

"Bands" are channels of images that are not color images of 8 bits. They are read by `ArrayReader`, `TiffReader` or a
reader of the user.
"""
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mae_backbone.data.band_transform import TRAIN_OPTIONS
from mae_backbone.data.load_image import LOADS_IMAGE
from mae_backbone.data.readers import BandReader
from mae_backbone.data.reading import reading_in
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec, dataset_specs, dicts_in
from mae_backbone.formats.registry import format_of
from mae_backbone.planning.image_sample import sample_images

# Transforms of mmcv, mmdet and mmseg that accept any number of channels of 8 bits or float32. The other transforms
# change colors, fill with three values, or call functions of OpenCV that accept at most four channels.
_ANY_CHANNELS = {
    'LoadImage', 'LoadAnnotations', 'Resize', 'RandomResize', 'RandomChoiceResize', 'ResizeShortestEdge',
    'ResizeToMultiple', 'FixScaleResize', 'RandomFlip', 'RandomCrop', 'CenterCrop', 'MinIoURandomCrop', 'RandomChoice',
    'FilterAnnotations', 'PackDetInputs', 'PackSegInputs', 'TestTimeAug', 'RandomCutOut', 'CutOut'}
_PREPROCESSORS = {'DetDataPreprocessor': 'mae_backbone.BandDataPreprocessor',
                  'SegDataPreProcessor': 'mae_backbone.BandSegDataPreprocessor',
                  'ImgDataPreprocessor': 'mae_backbone.PixelPreprocessor'}
_KEPT_BY_PIXELS = ('mean', 'std', 'non_blocking')  # arguments of PixelPreprocessor


def use_reader(cfg: Config, reader: dict[str, Any]) -> list[str]:
    """Sets the reader of all data sets of a config, and adapts the model to its channels.

    For bands, transforms that need color images are removed, and the number of channels of the backbone is set. Mean
    and standard deviation are measured on a sample of the training images, unless the config has them for all bands.

    Args:
        cfg: config of MMEngine's Runner with the folder of the data, changed in place.
        reader: config of the reader, such as dict(type='mae_backbone.ArrayReader', channels=5, dtype='uint16').

    Returns:
        Lines for the plan.

    Raises:
        ValueError: the reader is unknown or has an option out of range, or no training image can be read.
    """
    built = _build(reader)
    lines: list[str] = []
    specs = [spec for split in SPLITS for spec in dataset_specs(cfg, split)]
    for spec in specs:
        _set_loading(spec, reader, built.suffixes)
    for step in dicts_in(cfg.get('tta_pipeline')):
        _replace_loading(step, reader)
    if not isinstance(built, BandReader):
        return [f'images: read by {reader["type"]}']
    lines.append(f'images: {built.channels} channels with {8 * built.dtype.itemsize} bits, read by {reader["type"]}')
    if built.is_color:
        return lines
    removed = dict.fromkeys(name for spec in specs for name in _remove_color_steps(spec))
    if removed:
        lines.append(f'left out, as they need color images with 8 bits: {", ".join(removed)}')
    _set_channels(cfg, built.channels)
    train = dataset_specs(cfg, 'train')
    lines += _set_normalization(cfg, built, train[0] if train else None)
    return lines


def check_bands(cfg: Config) -> None:
    """Checks that the transforms and the model of a config accept the bands that its readers return.

    Raises:
        DataError: a setting does not fit. The message names the setting and says how to correct it.
    """
    for spec in [spec for split in SPLITS for spec in dataset_specs(cfg, split)]:
        reading = reading_in(spec.cfg)
        if not isinstance(reading, BandReader) or reading.is_color:
            continue
        bands = f'{reading.channels} channels with {8 * reading.dtype.itemsize} bits'
        for step in spec.transforms():
            if _needs_color(step):
                raise DataError(f'{spec.split}: {step["type"]} is for color images with 8 bits, the reader gives '
                                f'{bands}: remove it from the pipeline')
        key, part = _embedding(cfg)
        channels = part.get('in_chans' if 'in_chans' in part else 'in_channels', 3)
        if channels != reading.channels:
            raise DataError(f'{spec.split}: the reader gives {bands}, the model takes {channels}: set '
                            f'{key}={reading.channels}')
        preprocessor = _preprocessor(cfg)
        if preprocessor.get('bgr_to_rgb') or preprocessor.get('rgb_to_bgr'):
            raise DataError(f'{spec.split}: the reader gives the channels in the order of the file, but the '
                            'data_preprocessor exchanges the first and the third: set bgr_to_rgb=False')
        mean = preprocessor.get('mean')
        if isinstance(mean, (list, tuple)) and len(mean) not in (1, reading.channels):
            raise DataError(f'{spec.split}: the reader gives {bands}, the data_preprocessor has a mean of {len(mean)}: '
                            'set mean and std for each channel (`mae-backbone measure --reader` prints them)')


def _build(reader: dict[str, Any]) -> Any:
    try:
        return TRANSFORMS.build(dict(reader))
    except (KeyError, TypeError) as error:
        raise ValueError(f'--reader {reader}: {str(error).splitlines()[0]}: expected mae_backbone.ArrayReader, '
                         'TiffReader or ColorReader, or your own reader, and its options as KEY=VALUE') from error


def _set_loading(spec: DatasetSpec, reader: dict, suffixes: tuple[str, ...]) -> None:
    if spec.type_name.rpartition('.')[2] in ('ClassFolder', 'UnlabeledImages'):
        spec.cfg.reader = dict(reader)
        return
    for step in spec.transforms():
        _replace_loading(step, reader)
    if spec.option('img_suffix') is not None:
        spec.cfg.img_suffix = _suffix_in(spec.folder('img_path'), suffixes)


def _replace_loading(step: dict, reader: dict) -> None:
    if str(step.get('type')) in LOADS_IMAGE:
        to_float32 = {'to_float32': True} if step.get('to_float32') else {}
        step.clear()
        step.update(type='mae_backbone.LoadImage', reader=dict(reader), **to_float32)


def _suffix_in(folder: str, suffixes: tuple[str, ...]) -> str:
    """Returns the first file suffix in a folder that is one of `suffixes`, in its original case."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = (os.path.splitext(name)[1] for name in names)
    return next((suffix for suffix in found if suffix.lower() in suffixes), suffixes[0])


def _remove_color_steps(spec: DatasetSpec) -> Iterator[str]:
    """Removes transforms and augmentations that need color images from a data set. Yields their names."""
    if spec.type_name.rpartition('.')[2] == 'ClassFolder':
        augment = spec.cfg.get('augment') or {}
        dropped = [key for key in augment if key not in (*TRAIN_OPTIONS, 'crop_pct')]
        yield from (key for key in dropped if augment[key])
        if augment:
            spec.cfg.augment = {key: value for key, value in augment.items() if key not in dropped}
        return
    pipeline = spec.option('pipeline')
    if pipeline:
        yield from (str(step['type']) for step in pipeline if _needs_color(step))
        spec.cfg.pipeline = [step for step in pipeline if not _needs_color(step)]


def _needs_color(step: dict) -> bool:
    """True if a transform of mmcv, mmdet or mmseg is not known to accept any number of channels.

    False for transforms of the user and of this package.
    """
    scope, _, name = str(step.get('type')).rpartition('.')
    if not name or scope not in ('', 'mmcv', 'mmdet', 'mmseg') or name in _ANY_CHANNELS or name in LOADS_IMAGE:
        return False
    own = TRANSFORMS.module_dict.get(name)  # a transform of the user, or of mmcv
    return own is None or own.__module__.startswith('mmcv.')


def _embedding(cfg: Config) -> tuple[str, dict]:
    """Returns the key of the number of input channels in the config, and the dict (encoder or backbone) that has it."""
    owner = 'encoder' if cfg.model.get('encoder') else 'backbone'
    part = cfg.model.get(owner) or {}
    name = 'in_chans' if str(part.get('type')).endswith('TimmViT') else 'in_channels'
    return f'model.{owner}.{name}', part


def _set_channels(cfg: Config, channels: int) -> None:
    key, part = _embedding(cfg)
    name = key.rpartition('.')[2]
    if channels != part.get(name, 3):
        part[name] = channels


def _preprocessor(cfg: Config) -> dict:
    return (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {}


def _set_normalization(cfg: Config, reader: BandReader, train: DatasetSpec | None) -> list[str]:
    preprocessor = _preprocessor(cfg)
    kind = str(preprocessor.get('type')).rpartition('.')[2]
    for name in ('bgr_to_rgb', 'rgb_to_bgr'):
        if name in preprocessor:
            preprocessor[name] = False
    mean = preprocessor.get('mean')
    if kind in _PREPROCESSORS and reader.channels != 3:
        preprocessor['type'] = _PREPROCESSORS[kind]
        if kind == 'ImgDataPreprocessor':
            for name in set(preprocessor) - {'type', *_KEPT_BY_PIXELS}:
                del preprocessor[name]
    states_bands = isinstance(mean, (list, tuple)) and len(mean) == reader.channels and (
        reader.channels != 3 or max(mean) > 255)
    if states_bands or train is None:
        return []
    sample = sample_images(format_of(train))
    if sample is None:
        raise DataError(f'no training image in {train.root} can be read by {reader}: check --data-root and --reader')
    values = [np.round(sample.mean, 1).tolist(), np.round(np.maximum(sample.std, 1.0), 1).tolist()]
    preprocessor.update(mean=values[0], std=values[1])
    return [f'normalization: measured on {len(sample.sizes)} of {sample.num_images:,} training images: '
            f'mean={values[0]}, std={values[1]}']
