"""Cache of features of a frozen encoder: extracted once, kept on the disk, memory-mapped from there."""
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import Dataset

from mae_backbone.evaluation.feature_extractor import extract_features
from mae_backbone.models.timm_vit import TimmViT
from mae_backbone.utils.atomic_write import write_text

_LOG = logging.getLogger(__name__)
POOLINGS = ('mean', 'class', 'tokens')
_SYNC_EVERY = 20  # seconds of extraction that a kill costs at most


class Features(NamedTuple):
    """Features of N images, in the order of their data set. `values` is memory-mapped from a file."""

    values: Tensor  # (N, D) float16, or (N, 1 + L, D) for all tokens
    labels: Tensor  # (N,) int64

    def select(self, indices: Tensor) -> 'Features':
        """Copies the features of some of the images into memory."""
        return Features(self.values[indices], self.labels[indices])


def cached_features(model: nn.Module, dataset: Dataset, folder: str | Path, *, pooling: str = 'mean',
                    key: str | None = None, batch_size: int = 256, workers: int = 1,
                    dtype: str = 'float32') -> Features:
    """Reads the features of a data set from `folder`, or extracts them and keeps them there.

    Features are kept in a folder named by a hash of all that they depend on: the weights and the architecture of the
    model, `key`, the number of images and `dtype`. The folder is renamed into place once it is complete. An extraction
    that was killed continues where it stopped. If several processes want the same features, one of them extracts.

    Args:
        model: with a `backbone` that has a class token, a `data_preprocessor` and a forward with mode='tokens', such as
            `ViTClassifier` with num_classes=0. It runs on the device that it is on, and keeps its mode.
        dataset: its items are dict(inputs=uint8 (C, H, W), data_samples=label), without augmentation.
        folder: of the cache.
        pooling: 'mean' of the patch tokens or the 'class' token, which are extracted together; or all 'tokens', which
            take 2 * (1 + L) * D bytes per image (1.2 GB for 50,000 images of 65 tokens of width 192).
        key: identifies the images and their transforms; None: `dataset.fingerprint()`. A file whose content changes
            under the same name is not noticed.
        batch_size: images in a forward pass.
        workers: processes that load images.
        dtype: 'float32', or the type to compute in: 'bfloat16' or 'float16'.

    Raises:
        ValueError: unknown pooling, no images, images without labels, an unsuitable model, or features that are not
            finite in float16.
        OSError: the features do not fit on the disk.
    """
    if pooling not in POOLINGS:
        raise ValueError(f'pooling={pooling!r}, expected one of {", ".join(POOLINGS)}')
    if not len(dataset):  # type: ignore[arg-type]  # torch's Dataset declares no __len__
        raise ValueError('the data set has no images, so there are no features to extract: check its data_root')
    backbone = getattr(model, 'backbone', None)
    has_first = isinstance(backbone, TimmViT) or getattr(backbone, 'cls_token', None) is not None
    if not has_first or not hasattr(model, 'data_preprocessor'):
        raise ValueError(f'{type(model).__name__} cannot extract features: expected a model with a data_preprocessor '
                         'and a backbone with a class token, such as mae_backbone.ViTClassifier with num_classes=0')
    names = ('tokens',) if pooling == 'tokens' else ('mean', 'class')
    content = {'weights': model_fingerprint(model),
               'data': dataset.fingerprint() if key is None else key,  # type: ignore[attr-defined]  # ClassFolder has it
               'images': len(dataset), 'dtype': dtype, 'parts': names}  # type: ignore[arg-type]  # as above
    text = json.dumps(content, sort_keys=True)
    complete = Path(folder, hashlib.sha256(text.encode()).hexdigest()[:32])
    complete.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(complete.with_suffix('.lock')):
        if not complete.is_dir():
            partial = complete.with_suffix('.part')
            _extract(model, dataset, partial, names, batch_size=batch_size, workers=workers, dtype=dtype)
            (partial / 'about.json').write_text(text, encoding='utf-8')
            partial.rename(complete)
            (complete / 'rows').unlink()  # last: a kill before the renaming would cost the whole extraction
    return Features(_mapped(complete / f'{pooling}.npy'), _mapped(complete / 'labels.npy'))


def model_fingerprint(model: nn.Module) -> str:
    """Hash of the weights, the buffers and the architecture of a model: 64 hexadecimal digits."""
    digest = hashlib.sha256(f'{model}{getattr(getattr(model, "backbone", None), "arch", "")}'.encode())
    # Buffers are added separately: a state dict lacks the mean and the standard deviation of the pixels.
    for name, tensor in [*model.state_dict().items(), *model.named_buffers()]:
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _extract(model: nn.Module, dataset: Dataset, folder: Path, names: Sequence[str], *, batch_size: int, workers: int,
             dtype: str) -> None:
    """Writes NAME.npy for each of `names`, and labels.npy, into `folder`."""
    total = len(dataset)  # type: ignore[arg-type]  # torch's Dataset declares no __len__
    files = _partial_files(folder, [*names, 'labels'], total)
    first = done = int((folder / 'rows').read_text(encoding='utf-8')) if files else 0
    start = synced = time.monotonic()
    was_training = model.training
    model.eval()
    try:
        for features, labels in extract_features(model, dataset, range(first, total), poolings=names,
                                                 batch_size=batch_size, workers=workers, dtype=dtype):
            if labels is None:
                raise ValueError('an image has no class, and features are cached only for labeled images: use a data '
                                 'set such as mae_backbone.ClassFolder')
            rows = {name: values.half().cpu().numpy() for name, values in features.items()}
            if not all(np.isfinite(values).all() for values in rows.values()):
                raise ValueError('a feature is NaN, infinite or above 65,504: the model has diverged, take an earlier '
                                 'checkpoint')
            rows['labels'] = labels.numpy()
            for name, values in rows.items():
                if name not in files:
                    files[name] = _create_file(folder / f'{name}.npy', (total, *values.shape[1:]), values.dtype)
                files[name][done:done + len(values)] = values
            done += len(labels)
            if time.monotonic() - synced > _SYNC_EVERY or done == total:
                synced = time.monotonic()
                for file in files.values():
                    file.flush()
                # After the rows themselves: it promises that they are there.
                write_text(folder / 'rows', str(done), durable=True)
                speed = (done - first) / (synced - start)
                _LOG.info('features: %d of %d images, %.0f images/s, %.0f s left', done, total, speed,
                          (total - done) / speed)
    finally:
        model.train(was_training)


def _create_file(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Creates an .npy file of the full size, mapped for writing. Raises OSError if it does not fit on the disk."""
    file = np.lib.format.open_memmap(path, mode='w+', dtype=dtype, shape=shape)
    if hasattr(os, 'posix_fallocate'):
        # The file is sparse: without its blocks, a write to the map on a full disk kills the process (SIGBUS).
        with open(path, 'r+b') as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    return file


def _partial_files(folder: Path, names: Sequence[str], total: int) -> dict[str, np.memmap]:
    """Files by name of an extraction that was killed, mapped for writing; none, and a new folder, if unusable."""
    try:
        if not 0 < int((folder / 'rows').read_text(encoding='utf-8')) <= total:
            raise ValueError(f'{folder / "rows"} is damaged')
        files = {name: np.lib.format.open_memmap(folder / f'{name}.npy', mode='r+') for name in names}
        if any(len(file) != total for file in files.values()):
            raise ValueError(f'{folder} holds another number of rows than {total}')
    except (OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return {}
    return files


def _mapped(path: Path) -> Tensor:
    """Maps an .npy file as a tensor. Writing to the tensor changes memory of this process only, not the file."""
    return torch.from_numpy(np.load(path, mmap_mode='c'))
