"""Loaded models -> targets of an export."""
import copy
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from mae_backbone.core.vit import ViT
from mae_backbone.data.decode import DEFAULT, Decoding
from mae_backbone.data.reading import is_color, reader_settings
from mae_backbone.engine.provenance import commit, versions
from mae_backbone.export.encoder import EncoderOutputs
from mae_backbone.export.modules import OUTPUT_NAMES, Activation, Chain, HalfPrecision, Maps, Pixels
from mae_backbone.export.options import ExportOptions
from mae_backbone.export.target import Axis, ExportError, ExportTarget, image_axes, to_pixels
from mae_backbone.export.verify import HALF_LIMIT
from mae_backbone.prediction.model import Classifier, Detector, Encoder, MaskedAutoencoder, Model, Segmenter
from mae_backbone.prediction.onnx.description import ClassInfo, Description


def build_target(model: Model, options: ExportOptions) -> ExportTarget:
    """Builds the target of a loaded model. The model itself is not changed.

    Raises:
        ExportError: the model does not have the part, or cannot be exported with these options.
    """
    if options.part != 'model':
        return _part(model, options)
    for kind, name in BUILDERS.items():
        if isinstance(model, kind):
            module, _, function = name.partition(':')
            return getattr(import_module(module), function)(model, options)
    raise ExportError(f'{model.path}: a model for {model.task} cannot be exported as a whole: take --part backbone')


def _part(model: Model, options: ExportOptions) -> ExportTarget:
    """Target of the backbone, or of the backbone and its neck."""
    if options.activation != 'logits':
        raise ExportError(f'--{options.activation} is for whole models: the outputs of a {options.part} are features')
    neck = getattr(model.net, 'neck', None)
    if options.part == 'pyramid' and neck is None:
        raise ExportError(f'{model.path} has no neck: take --part backbone')
    backbone = model.encoder if isinstance(model, (Encoder, MaskedAutoencoder, Classifier)) else model.net.backbone
    if options.part == 'pyramid' or backbone is not model.encoder or len(getattr(backbone, 'out_indices', (-1,))) > 1:
        module: nn.Module = Maps([backbone, neck] if options.part == 'pyramid' and neck is not None else [backbone])
        kind = 'level' if options.part == 'pyramid' else 'features'
        count = len(Maps.forward(_inference(module), example(model, options)))
        names = (kind,) if count == 1 else tuple(f'{kind}_{i}' for i in range(count))
    else:
        module = EncoderOutputs(backbone)
        names = module.output_names
    minimum = 2 * coarsest_stride(model, options) if options.part == 'pyramid' else None
    description = describe(model, options, task='features', multiple=patch_size(model), minimum=minimum)
    return assemble(model, options, description, module, names)


def encoder_target(model: Model, options: ExportOptions) -> ExportTarget:
    """Target of an encoder or of the encoder of a MAE."""
    return _part(model, ExportOptions(**{**vars(options), 'part': 'backbone'}))


class ClassifierLogits(nn.Module):
    """Classifier without softmax: images (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> logits (B, num_classes)."""
        return self.net.head(self.net.head_norm(self.net.features(images)))


def classifier_target(model: Classifier, options: ExportOptions) -> ExportTarget:
    """Target of a classifier.

    Raises:
        ExportError: `argmax`, which removes the scores.
    """
    if options.activation == 'argmax':
        raise ExportError('--argmax is for segmenters: a classifier without scores predicts nothing, take --softmax')
    dataset = model.config.test_dataloader.dataset if model.config is not None else {}
    prepare = {'kind': 'evaluation', 'image_size': list(options.size or input_size(model)),
               'augment': dict(dataset.get('augment') or {})}
    description = describe(model, options, task='classification', multiple=patch_size(model), prepare=prepare)
    return assemble(model, options, description, ClassifierLogits(model.net), (OUTPUT_NAMES[options.activation],),
                    finish=Activation(options.activation))


def describe(model: Model, options: ExportOptions, *, task: str, multiple: int, dynamic: tuple[str, ...] = ('batch',),
             minimum: int | None = None, settings: Mapping[str, Any] | None = None,
             prepare: Mapping[str, Any] | None = None) -> Description:
    """Facts about the export of a model.

    Args:
        model, options: of the export.
        task: as in `Description`.
        multiple, minimum: of the sides of its input.
        dynamic: the dynamic axes if the options do not state them.
        settings, prepare: as in `Description`; by default images are resized and cropped as in evaluations.

    Raises:
        ExportError: a size that is no multiple.
    """
    size = options.size or input_size(model)
    axes = options.axes(dynamic)
    # torch.export makes a special case of one patch.
    minimum = max(minimum or multiple, 2 * multiple if 'size' in axes else multiple)
    if any(side % multiple or side < minimum for side in size):
        multiples = f'multiples of {multiple} pixels, and ' if multiple > 1 else ''
        raise ExportError(f'size={size[0]},{size[1]}: both sides must be {multiples}at least {minimum} pixels')
    mean, std = pixel_statistics(model.net)
    names = getattr(model, 'classes', ()) if options.part == 'model' else ()
    colors = getattr(model, 'colors', ())
    classes = tuple(ClassInfo(number, name, color) for number, name, color
                    in zip(getattr(model, 'class_ids', ()), names, colors, strict=True)) if names else ()
    decoding, reader, fault = image_reading(model)
    if fault and options.preprocessing:
        raise ExportError(f'--preprocessing: {fault}, leave it out and normalize the pixels yourself')
    if fault:
        prepare = {'kind': 'unknown', 'reason': fault}
    return Description(
        task=task, part=options.part, activation=options.activation if options.part == 'model' else '',
        classes=classes, channels=channel_order(model), mean=mean, std=std,
        preprocessing=options.preprocessing, image_size=size, dynamic=axes, multiple=multiple,
        minimum=minimum, prepare=dict(prepare or {'kind': 'evaluation', 'image_size': list(size)}),
        decoding=decoding, reader=reader, settings=dict(settings or {}),
        source={'versions': versions(), 'commit': commit(), 'half': options.half})


def assemble(model: Model, options: ExportOptions, description: Description, core: nn.Module,
             output_names: tuple[str, ...], *, finish: nn.Module | None = None,
             output_axes: Mapping[str, Mapping[int, str]] | None = None) -> ExportTarget:
    """Puts pixels, precision and activation around the core of a model.

    Args:
        model, options: of the export.
        description: of the file.
        core: normalized images (B, C, H, W) float32 -> outputs.
        output_names: of the outputs.
        finish: applied to the output of the core, in float32.
        output_axes: names of dynamic axes of the outputs; by default the first one is the batch.
    """
    core = _inference(copy.deepcopy(core).cpu())
    images = example(model, options)[:2 if 'batch' in description.dynamic else 1]
    axes = image_axes(batch='batch' in description.dynamic, size='size' in description.dynamic,
                      multiple=description.multiple, minimum=description.minimum)
    modules = [HalfPrecision(core) if options.half else core, *([finish] if finish is not None else [])]
    if options.preprocessing:
        resizes = 'size' not in description.dynamic
        modules.insert(0, Pixels(description, description.image_size if resizes else None))
        images = to_pixels(images, torch.uint16 if description.reader.get('dtype') == 'uint16' else torch.uint8)
        if resizes:
            axes |= {2: Axis('height'), 3: Axis('width')}
    module = _inference(Chain(*modules))
    named: Mapping[str, Mapping[int, str]] = {name: {0: 'batch'} for name in output_names}
    return ExportTarget(
        module, (images,), ('images',), output_names, {'images': axes} if axes else {},
        output_axes if output_axes is not None else named if 0 in axes else {}, description.to_metadata(),
        limit=HALF_LIMIT if options.half else None)


def example(model: Model, options: ExportOptions) -> Tensor:
    """Normalized images (2, C, H, W), of the size of the export."""
    height, width = options.size or input_size(model)
    return torch.randn(2, in_channels(model), height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def coarsest_stride(model: Model, options: ExportOptions) -> int:
    """Pixels of the image for each pixel of the coarsest map behind the backbone and the neck."""
    images = example(model, options)[:1].to(model.device)
    maps = model.net.backbone(images)
    maps = model.net.neck(maps) if getattr(model.net, 'neck', None) is not None else maps
    return max(-(-images.shape[2] // one.shape[2]) for one in maps)


def input_size(model: Model) -> tuple[int, int]:
    """(H, W) in pixels that a model is trained for."""
    if isinstance(model, Classifier):
        size = model.config.test_dataloader.dataset.get('image_size', 224) if model.config is not None else 224
        return (size, size) if isinstance(size, int) else (size[0], size[1])
    slide = getattr(model.net, 'test_cfg', None) or {}
    if isinstance(model, Segmenter) and slide.get('mode') == 'slide':
        height, width = slide['crop_size']
        return height, width
    if isinstance(model.encoder, ViT):
        return model.encoder.image_size  # positions may be stored for the size of the pretraining
    return model._image_size()


def patch_size(model: Model) -> int:
    """Sides of the images of a model are multiples of this number of pixels."""
    return int(getattr(model.encoder if model.encoder is not None else model.net.backbone, 'patch_size', 1))


def pixel_statistics(net: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel that a model normalizes pixels with; () and () if it does not."""
    preprocessor: Any = getattr(net, 'data_preprocessor', None)
    if not getattr(preprocessor, '_enable_normalize', hasattr(preprocessor, 'mean')):
        return (), ()
    mean, std = (tuple(float(value) for value in getattr(preprocessor, name).flatten()) for name in ('mean', 'std'))
    return mean, std


def image_reading(model: Model) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Decoding of images that a file states.

    Returns:
        `decoding` and `reader` of a description, and why image files cannot be read; '' if they can.
    """
    reading, channels = model.decoding, in_channels(model)
    if isinstance(reading, Decoding):
        decoding = {name: value for name, value in reading._asdict().items() if value != getattr(DEFAULT, name)}
        return decoding, {}, '' if channels == 3 else (
            f'the model takes {channels} channels, and its config names no reader of such images')
    if reading.channels != channels:
        return {}, {}, f'the model takes {channels} channels, and the reader of its config gives {reading.channels}'
    settings = reader_settings(reading)
    return {}, settings or {}, '' if settings else (
        f'its images are read by {type(reading).__name__}, which is not a reader of this package')


def in_channels(model: Model) -> int:
    """Number of channels of the images that a model takes."""
    return int(getattr(model.encoder if model.encoder is not None else model.net.backbone, 'in_channels', 3))


def channel_order(model: Model) -> str:
    """Order of the channels that the network takes; '' if they are no colors.

    mmdet and mmseg load images as BGR, classification and pretraining as RGB.
    """
    preprocessor: Any = getattr(model.net, 'data_preprocessor', None)
    if in_channels(model) != 3 or not is_color(model.decoding):
        return ''
    flips = bool(getattr(preprocessor, '_channel_conversion', False) or getattr(preprocessor, 'channel_conversion',
                                                                                False))
    loaded = 'BGR' if model.task in ('detection', 'segmentation') else 'RGB'
    return loaded if not flips else {'BGR': 'RGB', 'RGB': 'BGR'}[loaded]


def _inference(module: nn.Module) -> Any:
    return module.eval().requires_grad_(False)


# Kind of model -> the function that builds its target, imported when it is used: some import mmdet or mmseg.
BUILDERS: dict[type, str] = {
    Classifier: 'mae_backbone.export.build:classifier_target', Encoder: 'mae_backbone.export.build:encoder_target',
    MaskedAutoencoder: 'mae_backbone.export.build:encoder_target',
    Detector: 'mae_backbone.export.detector_target:detector_target',
    Segmenter: 'mae_backbone.export.segmenter:segmenter_target'}
