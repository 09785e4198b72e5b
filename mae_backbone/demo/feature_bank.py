"""Features of many images with their thumbnails, and the images that are most similar to another one."""
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from mae_backbone.checkpoints.safetensors_file import is_finite, open_safetensors, save_safetensors
from mae_backbone.data.decode import BadImageError
from mae_backbone.data.files import list_images
from mae_backbone.data.reading import read_pixels, shown, suffixes_of
from mae_backbone.evaluation.feature_cache import model_fingerprint
from mae_backbone.prediction.model import Model
from mae_backbone.prediction.onnx.model import OnnxEncoder
from mae_backbone.utils.atomic_write import atomic_path
from mae_backbone.utils.printable import printable

SUFFIX = '.safetensors'
_THUMBNAIL = 128  # pixels of the longer side
_BATCH = 16       # images in a forward pass
_FORMAT = 'mae_backbone.feature_bank.1'
_LOG = logging.getLogger(__name__)


class Neighbor(NamedTuple):
    """An image of a bank.

    Attributes:
        name: path relative to the folder of the bank.
        similarity: cosine of the angle between its features and the features of the query.
        thumbnail: a JPEG file.
    """

    name: str
    similarity: float
    thumbnail: bytes


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Features of N images.

    Attributes:
        names: N paths, relative to the folder.
        features: (N, D) float32 of unit length.
        thumbnails: N JPEG files.
        model: fingerprint of the model that computed the features.
    """

    names: list[str]
    features: np.ndarray
    thumbnails: list[bytes]
    model: str

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, feature: np.ndarray, number: int = 8) -> list[Neighbor]:
        """feature (D,) -> the images with the most similar features, most similar first."""
        similarity = self.features @ unit(feature)
        best = np.argsort(-similarity, kind='stable')[:number]
        return [Neighbor(self.names[i], float(similarity[i]), self.thumbnails[i]) for i in best]

    def save(self, path: str | Path) -> None:
        """Writes the bank to a file.

        Raises:
            ValueError: the name does not end in `.safetensors`.
        """
        check_suffix(path)
        sizes = [0, *map(len, self.thumbnails)]
        tensors = {'features': torch.from_numpy(self.features),
                   'offsets': torch.from_numpy(np.cumsum(sizes, dtype=np.int64)),
                   'thumbnails': torch.frombuffer(bytearray(b''.join(self.thumbnails)), dtype=torch.uint8)}
        with atomic_path(path) as temporary:
            save_safetensors(tensors, temporary, {'format': _FORMAT, 'model': self.model,
                                                  'names': json.dumps(self.names)})


def unit(features: np.ndarray) -> np.ndarray:
    """features (..., D) -> the same of length 1; zeros stay zeros."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.maximum(length, 1e-12)).astype(np.float32)


def build_bank(model: Model | OnnxEncoder, folder: str | Path, *,
               log: Callable[[str], None] = _LOG.info) -> FeatureBank:
    """Computes features of all images in a folder. Images that cannot be read are left out and logged.

    Args:
        model: with an encoder, or an exported one.
        folder: of images, with any subfolders.
        log: receives lines about the progress.

    Raises:
        ValueError: no image can be read, or the model has no encoder.
    """
    files = list_images(folder, suffixes_of(model.decoding))
    names: list[str] = []
    thumbnails: list[bytes] = []
    features: list[np.ndarray] = []
    for start in range(0, len(files), _BATCH):
        pixels = []
        for file in files[start:start + _BATCH]:
            try:
                pixels.append(read_pixels(file, model.decoding))
            except (BadImageError, OSError) as error:
                log(f'left out: {printable(str(error))}')
                continue
            names.append(file.relative_to(folder).as_posix())
            thumbnails.append(thumbnail(shown(pixels[-1], model.decoding)))
        if pixels:
            features.append(np.asarray(model.features(pixels, pool='mean', batch_size=_BATCH)))
        if start // _BATCH % 20 == 19:
            log(f'feature bank: {start + _BATCH:,} of {len(files):,} images')
    if not names:
        raise ValueError(f'{folder} holds no image that can be read')
    return FeatureBank(names, unit(np.concatenate(features)), thumbnails, fingerprint(model))


def load_bank(path: str | Path, model: Model | OnnxEncoder) -> FeatureBank:
    """Reads a file of `FeatureBank.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, another kind of file, or was computed by another model.
    """
    path = check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: pass a folder of images, or a file of --save-bank')
    try:
        tensors, metadata = open_safetensors(path)
        if metadata.get('format') != _FORMAT or set(tensors) != {'features', 'offsets', 'thumbnails'}:
            raise ValueError('is no feature bank')
        names = json.loads(metadata.get('names', ''))
        features, offsets, data = (tensors[name]() for name in ('features', 'offsets', 'thumbnails'))
        number = len(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else 0
        if not number or features.dtype != torch.float32 or features.ndim != 2 or len(features) != number:
            raise ValueError('has no features, or names of other images')
        if offsets.dtype != torch.int64 or offsets.shape != (number + 1,) or data.dtype != torch.uint8 or (
                int(offsets[0]) or int(offsets[-1]) != data.numel() or bool((offsets.diff() < 0).any())):
            raise ValueError('has no complete thumbnails')
        if not is_finite(features):
            raise ValueError('has features that are not finite')
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} {error}: pass a folder of images, or a file of --save-bank') from error
    if metadata.get('model') != fingerprint(model):
        raise ValueError(f'{path} was computed by another model than {model.path}: pass the folder of its images')
    content, ends = data.numpy().tobytes(), offsets.tolist()
    thumbnails = [content[begin:end] for begin, end in pairwise(ends)]
    return FeatureBank(names, features.numpy(), thumbnails, metadata['model'])


def fingerprint(model: Model | OnnxEncoder) -> str:
    """Hash of the weights of a model, or of an exported file with its weights."""
    if isinstance(model, Model):
        return model_fingerprint(model.net)
    digest = hashlib.sha256()
    for path in (model.path, model.path.with_name(f'{model.path.name}.data')):
        if path.is_file():
            with path.open('rb') as file:
                while block := file.read(2 ** 20):
                    digest.update(block)
    return digest.hexdigest()


def check_suffix(path: str | Path) -> Path:
    """Returns the path of a file of a bank. Raises ValueError if its name does not end in `.safetensors`."""
    if Path(path).suffix != SUFFIX:
        raise ValueError(f'{path}: the file of a feature bank ends in {SUFFIX}')
    return Path(path)


def thumbnail(pixels: np.ndarray, side: int = _THUMBNAIL) -> bytes:
    """pixels (H, W, 3) uint8 RGB -> a JPEG file of at most `side` pixels."""
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode('.jpg', small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
