"""Trained models as Python objects: load a file, predict, compute features, reconstruct."""
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mae_backbone.core.attention_from import attention_from
from mae_backbone.core.vit import ViT
from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.data.decode import Decoding
from mae_backbone.data.reading import Reading, is_color, shown
from mae_backbone.hooks.reconstruction import reconstruct
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.models.timm_attention import timm_attention_from
from mae_backbone.models.timm_vit import TimmViT
from mae_backbone.prediction.attention import AttentionResult, attention_blocks, input_size, patch_at
from mae_backbone.prediction.inputs import ImageLike, Source, is_single, resized, sources
from mae_backbone.prediction.predicting import Images, PredictsImages, ResultT, batches
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.prediction.typed_results import (
    ClassificationResult,
    DetectionResult,
    ReconstructionResult,
    SegmentationResult,
)
from mae_backbone.prediction.windows import DEFAULT_SCALE, from_windows, magnification, to_windows

POOLS = ('mean', 'class')


class Model:
    """A model with its weights. `mae_backbone.load` builds one.

    Several threads may use a model at once.

    Args:
        path: path of the checkpoint.
        net: module of the model, in evaluation mode on its device.
        encoder: ViT of the model; None if the model has another backbone.
        config: config of the training; None for a file without a config.
        dtype: dtype of the computation; the weights stay float32.
        decoding: settings with which image files are decoded.

    Attributes:
        task: 'detection', 'segmentation', 'classification', 'pretraining' or 'features'.
        device: device of the weights.
    """

    task = 'features'

    def __init__(self, path: Path, net: Any, encoder: 'ViT | TimmViT | None', *, config: Config | None,
                 dtype: str = 'float32', decoding: Reading) -> None:
        self.path, self.net = path, net
        self.encoder: Any = encoder
        self.config, self.dtype, self.decoding = config, dtype, decoding

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.net.parameters()).device

    def __repr__(self) -> str:
        backbone = type(getattr(self.net, 'backbone', self.net)).__name__
        if self.encoder is not None:
            backbone = f'ViT of width {self.encoder.arch.width} with {self.encoder.arch.depth} blocks'
        number = sum(parameter.numel() for parameter in self.net.parameters())
        return (f'{type(self).__name__}({self.path.name}, {backbone}, {number:,} parameters, {self.device}, '
                f'{self.dtype})')

    def features(self, images: Images, *, layer: int = -1, pool: str | None = None,
                 size: int | tuple[int, int] | None = None, batch_size: int = 8, progress: bool = False,
                 as_tensor: bool = False) -> 'np.ndarray | Tensor':
        """Computes features of the encoder.

        Images are resized and center-cropped as in the evaluations of this package, and normalized as in training.

        Args:
            images: an image, a sequence of images, a folder, or a video; see `predict`.
            layer: index of the block whose output is used; -1 is the last block. The last norm of the encoder is
                applied.
            pool: None for feature maps; 'mean' for the mean of the patch tokens; 'class' for the class token of the
                last block.
            size: height and width of the input in pixels as an integer or (H, W), multiples of the patch size; by
                default the size for which the position embeddings of the encoder are stored.
            batch_size: number of images in a forward pass.
            progress: show a progress bar on stderr.
            as_tensor: return a tensor on the device of the model instead of an array.

        Returns:
            Features (B, D, h, w) float32, or (B, D) if `pool` is set. B is 1 for one image.

        Raises:
            ValueError: an option is out of range, or an image has an unknown form.
        """
        self._check_encoder('features')
        depth = self.encoder.arch.depth
        if pool is not None and pool not in POOLS:
            raise ValueError(f'pool={pool!r}, expected None, {" or ".join(map(repr, POOLS))}')
        if not -depth <= layer < depth:
            raise ValueError(f'layer={layer}, the {depth} blocks are numbered from 0, or from -1 backwards')
        if pool == 'class' and not (_has_class_token(self.encoder) and layer % depth == depth - 1):
            raise ValueError("pool='class' is for the last layer of an encoder with a class token: use pool='mean'")
        height, width = size if isinstance(size, (tuple, list)) else (size, size) if size else self._image_size()
        patch_size = self.encoder.patch_size
        if height % patch_size or width % patch_size or min(height, width) < patch_size:
            raise ValueError(f'size={height}x{width}: both sides must be multiples of the patch size {patch_size}')
        transform = evaluation_transform((height, width), None, self.decoding)
        features = []
        for batch in batches(images, batch_size, progress, self.decoding):
            inputs = [transform(source.read(self.decoding)) for source in batch]
            output = self._encode(self._normalize(inputs), layer, pool)
            features.append(output if as_tensor else output.cpu().numpy())
        if not features:
            raise ValueError('there are no images to compute features of')
        return torch.cat(features) if as_tensor else np.concatenate(features)  # type: ignore[arg-type]  # of one kind

    def attention(self, image: ImageLike, point: tuple[float, float] | None = None, *,
                  block: int | None = None) -> AttentionResult:
        """Computes the attention of the encoder for a point of an image.

        The image is resized to about the number of pixels for which the encoder was built.

        Args:
            image: an image, see `predict`.
            point: (x, y) in pixels of the image; None for its center.
            block: index of the block; None for the last one that attends to the whole image.

        Raises:
            BadImageError, OSError: the image cannot be read.
            ValueError: the point or the block does not exist, or the attention of the model cannot be read.
        """
        self._check_encoder('attention')
        if not is_single(image):
            raise ValueError('attention is computed for one image, and a folder, video or sequence is given: pass one '
                             'of its images')
        blocks = attention_blocks(self.encoder)
        number = (blocks or [self.encoder.arch.depth - 1])[-1] if block is None else block
        source = next(sources(image))
        pixels = source.read(self.decoding)
        point = (pixels.shape[1] / 2, pixels.shape[0] / 2) if point is None else point
        inputs = self._normalize([resized(pixels, input_size(self.encoder, (pixels.shape[0], pixels.shape[1])))])
        patch = patch_at(point, pixels.shape[:2], [side // self.encoder.patch_size for side in inputs.shape[2:]])
        compute: Any = attention_from if isinstance(self.encoder, ViT) else timm_attention_from
        with self._autocast():
            weights, prefix = compute(self.encoder, inputs, patch, block=number)
        return AttentionResult(source, shown(pixels, self.decoding), point, number % self.encoder.arch.depth,
                               weights[0].cpu().numpy(), prefix[0].cpu().numpy())

    def _check_encoder(self, what: str) -> None:
        if self.encoder is None:
            raise ValueError(f'{self.path} has a {type(self.net.backbone).__name__} as backbone: {what} '
                             'can only be computed for a ViT')

    def export(self, out: str | Path, **options: Any) -> Any:
        """Exports the model to an ONNX or .pt2 file. Options and result are as in `mae_backbone.export`."""
        import mae_backbone
        return mae_backbone.export(self, out, **options)

    @torch.no_grad()
    def _encode(self, inputs: Tensor, layer: int, pool: str | None) -> Tensor:
        """Normalized images (B, C, H, W) -> feature maps (B, D, h, w), or (B, D) if `pool` is set, float32."""
        with self._autocast():
            if pool == 'class':
                encoder = self.encoder
                tokens = encoder.encode(encoder.embed(inputs)) if isinstance(encoder, ViT) else encoder.tokens(inputs)
                return tokens[:, 0].float()
            maps = self.encoder.feature_maps(inputs, (layer,))[0].float()
        return maps if pool is None else maps.mean(dim=(2, 3))

    def _normalize(self, inputs: list[Tensor]) -> Tensor:
        """B images (3, H, W) uint8 -> (B, 3, H, W) on the device, normalized as in training."""
        preprocessor = self.net.data_preprocessor
        images = torch.stack(inputs).to(self.device)
        if self.task not in ('detection', 'segmentation'):
            return preprocessor({'inputs': list(images)}, False)['inputs']
        # The preprocessors of mmdet and mmseg take BGR, as mmcv loads images, and would pad them.
        converts = getattr(preprocessor, '_channel_conversion', False) or getattr(preprocessor, 'channel_conversion',
                                                                                  False)
        images = images.flip(1) if is_color(self.decoding) and not converts else images
        if not getattr(preprocessor, '_enable_normalize', hasattr(preprocessor, 'mean')):
            return images.float()
        return (images.float() - preprocessor.mean) / preprocessor.std

    def _image_size(self) -> tuple[int, int]:
        """Returns the image size (H, W) in pixels for which the position embeddings of the encoder are stored."""
        encoder = self.encoder
        h, w = encoder.grid if isinstance(encoder, ViT) else encoder.vit.patch_embed.grid_size
        return h * encoder.patch_size, w * encoder.patch_size

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, getattr(torch, self.dtype), enabled=self.dtype != 'float32')


class TaskModel(Model, PredictsImages[ResultT]):
    """A detector, segmenter or classifier.

    Args:
        predictor: the model for single images.
        path, config: as in `Model`.

    Attributes:
        classes: names of the classes.
        colors: (red, green, blue) of each class.
        class_ids: ids of the classes in the training annotations.
    """

    def __init__(self, predictor: Predictor, path: Path, config: Config) -> None:
        backbone = getattr(predictor.net, 'backbone', None)
        encoder = backbone if isinstance(backbone, (ViT, TimmViT)) else None
        super().__init__(path, predictor.net, encoder, config=config, dtype=predictor.dtype,
                         decoding=predictor.decoding)
        self.predictor, self.classes, self.colors = predictor, predictor.classes, predictor.colors
        self.class_ids = predictor.class_ids


class Detector(TaskModel[DetectionResult]):
    """A detector; its predictions are `DetectionResult`s."""

    task = 'detection'


class Segmenter(TaskModel[SegmentationResult]):
    """A segmenter; its predictions are `SegmentationResult`s."""

    task = 'segmentation'


class Classifier(TaskModel[ClassificationResult]):
    """A classifier; its predictions are `ClassificationResult`s."""

    task = 'classification'


class Encoder(Model):
    """The encoder of a file without a task, such as public MAE weights. It computes features."""

    def predict(self, *_: object, **__: object) -> None:
        """Raises ValueError: an encoder has no classes."""
        raise ValueError(f'{self.path} contains an encoder, which does not predict classes: use .features(images), '
                         'or train a model with it (mae-backbone train CONFIG --pretrained FILE)')


class MaskedAutoencoder(Model):
    """A pretrained MAE. It reconstructs images and computes features."""

    task = 'pretraining'
    net: MAEPretrainer

    def reconstruct(self, images: Images, *, mask_ratio: float | None = None, seed: int = 0,
                    batch_size: int = 8) -> 'ReconstructionResult | list[ReconstructionResult]':
        """Hides patches of images and reconstructs them.

        Args:
            images: as in `TaskModel.predict`. They are resized to the size of the pretraining.
            mask_ratio: fraction of the patches that are hidden, in (0, 1); by default the ratio of the pretraining.
            seed: random seed of the masks. The mask of an image depends on its index, not on the batch size.
            batch_size: number of images in a forward pass.

        Returns:
            A result for one image, else a list of results.

        Raises:
            BadImageError, OSError: an image cannot be read.
            ValueError: the ratio is out of range, or an image has an unknown form.
        """
        if mask_ratio is not None and not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio={mask_ratio}, expected a number between 0 and 1, such as 0.75')
        results = []
        generator = torch.Generator(self.device).manual_seed(seed)
        for batch in batches(images, batch_size, False, self.decoding):
            inputs = [resized(source.read(self.decoding), self._image_size()) for source in batch]
            with self._autocast():
                rows, hidden = reconstruct(self.net, inputs, generator=generator, mask_ratio=mask_ratio,
                                           channels=self._shown())
            results += [ReconstructionResult(source, *row, patches, self.encoder.patch_size) for source, row, patches
                        in zip(batch, rows, hidden, strict=True)]
        return results[0] if is_single(images) else results

    def reconstruct_whole(self, images: Images, *, mask_ratio: float | None = None, seed: int = 0,
                          batch_size: int = 8) -> 'ReconstructionResult | list[ReconstructionResult]':
        """Reconstructs whole images at the scale of the pretraining, and keeps their aspect ratio.

        An image is resized by the mean factor by which the pretraining resizes its crops. It is then split into windows
        of the size of these crops. Each window is masked and reconstructed separately.

        Args:
            images, mask_ratio, seed: as in `reconstruct`.
            batch_size: number of windows in a forward pass.

        Raises:
            BadImageError, OSError, ValueError: as in `reconstruct`.
        """
        if mask_ratio is not None and not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio={mask_ratio}, expected a number between 0 and 1, such as 0.75')
        generator = torch.Generator(self.device).manual_seed(seed)
        results = [self._reconstruct_windows(batch[0], generator, mask_ratio, batch_size)
                   for batch in batches(images, 1, False, self.decoding)]
        return results[0] if is_single(images) else results

    def _reconstruct_windows(self, source: Source, generator: torch.Generator, mask_ratio: float | None,
                             batch_size: int) -> ReconstructionResult:
        image, window, patch = source.read(self.decoding), self._image_size(), self.encoder.patch_size
        factor = magnification(image.shape[:2], window, self._scale())
        size = max(1, round(factor * image.shape[0])), max(1, round(factor * image.shape[1]))
        pixels = to_windows(resized(image, size).permute(1, 2, 0).numpy(), window)
        windows = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        rows: list[tuple[np.ndarray, ...]] = []
        hidden: list[np.ndarray] = []
        for start in range(0, len(windows), batch_size):
            with self._autocast():
                done, patches = reconstruct(self.net, list(windows[start:start + batch_size]), generator=generator,
                                            mask_ratio=mask_ratio, channels=self._shown())
            rows += done
            hidden += list(patches)
        original, masked, reconstruction = (from_windows(np.stack(column), size) for column in zip(*rows, strict=True))
        grid = -(-size[0] // patch), -(-size[1] // patch)
        return ReconstructionResult(source, original, masked, reconstruction,
                                    from_windows(np.stack(hidden), grid), patch)

    def _shown(self) -> tuple[int, ...] | None:
        """Returns the indices of the channels that are shown as red, green and blue; None for the first three."""
        return None if isinstance(self.decoding, Decoding) else self.decoding.shown

    def _scale(self) -> tuple[float, float]:
        """Returns the range of the area of crops in the pretraining, as a fraction of the area of the image."""
        loader = (self.config or {}).get('train_dataloader') or {}
        scale = (loader.get('dataset') or {}).get('scale') or DEFAULT_SCALE
        return float(scale[0]), float(scale[1])

    predict = reconstruct


def _has_class_token(encoder: 'ViT | TimmViT') -> bool:
    return encoder.cls_token is not None if isinstance(encoder, ViT) else bool(encoder.has_class_token)


KINDS: dict[str, Callable[..., Any]] = {'detection': Detector, 'segmentation': Segmenter,
                                        'classification': Classifier}
