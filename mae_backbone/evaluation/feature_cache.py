"""Features of a frozen encoder: extracted once, kept on the disk, mapped from there."""
import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mae_backbone.checkpoints.files import write_line

_LOG = logging.getLogger(__name__)
POOLINGS = ('mean', 'class', 'tokens')
_NOTE_EVERY = 20  # seconds between two notes of how far an extraction is: what a kill costs at most


class Features(NamedTuple):
    """Of N images, in the order of their data set; `values` is mapped from the disk and takes no memory of its own."""

    values: Tensor  # (N, D) float16, or (N, 1 + L, D) of all tokens
    labels: Tensor  # (N,) int64

    def part(self, indices: Tensor) -> 'Features':
        """The features of some of the images, in memory."""
        return Features(self.values[indices], self.labels[indices])


def cached_features(model: nn.Module, dataset: Dataset, folder: str | Path, *, pooling: str = 'mean',
                    key: str | None = None, batch_size: int = 256, workers: int = 1,
                    dtype: str = 'float32') -> Features:
    """The features of all images of a data set: from `folder` where they are there, otherwise extracted and kept.

    What is kept stands in a folder whose name depends on all that the features depend on: every weight and the shape
    of the model, `key`, the number of images and `dtype`. It gets that name when it is whole. An extraction that was
    killed goes on where it was; of several processes that want the same features one extracts them.

    Args:
        model: with a `backbone` that has a class token and a `data_preprocessor`, such as `ViTClassifier` with
            num_classes=0. It is used where it is, and left as it was.
        dataset: its items are dict(inputs=uint8 (C, H, W), data_samples=label), without augmentation.
        folder: for all that is kept.
        pooling: 'mean' of the patch tokens or the 'class' token, which are extracted together; or all 'tokens', which
            take 2 * (1 + L) * D bytes an image (1.2 GB for 50,000 images of 65 tokens of width 192).
        key: names the data and what is done to them; None: `dataset.fingerprint()`. Files that change their content
            under the same name are not noticed.
        batch_size: images in a forward pass.
        workers: processes that decode ahead.
        dtype: 'float32', or what to compute in: 'bfloat16' or 'float16'.

    Raises:
        ValueError: a pooling that does not exist, no images, images without labels, a model that is not one for
            features, or features that are not finite.
    """
    if pooling not in POOLINGS:
        raise ValueError(f'pooling={pooling!r}, wanted one of {", ".join(POOLINGS)}')
    if not len(dataset):
        raise ValueError('the data set has no images: nothing can be extracted')
    if getattr(getattr(model, 'backbone', None), 'cls_token', None) is None or not hasattr(model, 'data_preprocessor'):
        raise ValueError(f'{type(model).__name__} is no model for features: wanted one with a data_preprocessor and a '
                         'backbone with a class token, such as mae_backbone.ViTClassifier with num_classes=0')
    names = ('tokens',) if pooling == 'tokens' else ('mean', 'class')
    about = {'weights': fingerprint(model), 'data': dataset.fingerprint() if key is None else key,
             'images': len(dataset), 'dtype': dtype, 'parts': names}
    text = json.dumps(about, sort_keys=True)
    where = Path(folder, hashlib.sha256(text.encode()).hexdigest()[:32])
    where.parent.mkdir(parents=True, exist_ok=True)
    with _alone(where):
        if not where.is_dir():
            part = where.with_suffix('.part')
            _extract(model, dataset, part, names, batch_size=batch_size, workers=workers, dtype=dtype)
            (part / 'about.json').write_text(text, encoding='utf-8')
            part.rename(where)
            (where / 'rows').unlink()  # last: a kill before the renaming would cost the whole extraction
    return Features(_mapped(where / f'{pooling}.npy'), _mapped(where / 'labels.npy'))


def fingerprint(model: nn.Module) -> str:
    """What tells the weights and the shape of a model from any other: 64 hexadecimal digits."""
    digest = hashlib.sha256(f'{model}{getattr(model.backbone, "arch", "")}'.encode())
    # Buffers by themselves: a state dict lacks the mean and the deviation of the pixels.
    for name, tensor in [*model.state_dict().items(), *model.named_buffers()]:
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _extract(model: nn.Module, dataset: Dataset, part: Path, names: Sequence[str], *, batch_size: int, workers: int,
             dtype: str) -> None:
    """Writes NAME.npy for each of `names`, and labels.npy, into the folder `part`."""
    done = _resume(part, [*names, 'labels'], total=len(dataset))
    start = noted = time.monotonic()
    begun, total = done, len(dataset)
    with ExitStack() as stack:
        files: dict[str, _Rows] = {}
        for batch in _batches(model, dataset, done, names, batch_size=batch_size, workers=workers, dtype=dtype):
            for name, rows in batch.items():
                if name not in files:
                    files[name] = stack.enter_context(_Rows(part / f'{name}.npy', (total, *rows.shape[1:]), rows.dtype,
                                                            done=done))
                files[name].append(rows)
            done += len(batch['labels'])
            if time.monotonic() - noted > _NOTE_EVERY or done == total:
                noted = time.monotonic()
                for file in files.values():
                    file.sync()
                write_line(str(done), part / 'rows')
                speed = (done - begun) / (noted - start)
                _LOG.info('features: %d of %d images, %.0f images/s, %.0f s to go', done, total, speed,
                          (total - done) / speed)


def _batches(model: nn.Module, dataset: Dataset, first: int, names: Sequence[str], *, batch_size: int, workers: int,
             dtype: str) -> Iterator[dict[str, np.ndarray]]:
    """Arrays by name of the images from `first` on, batch by batch."""
    device = next(model.parameters()).device
    # With a generator of its own: a DataLoader draws the seed of its workers from torch's.
    loader = DataLoader(dataset, batch_size, sampler=range(first, len(dataset)), num_workers=workers,
                        collate_fn=_collate, pin_memory=device.type == 'cuda',
                        generator=torch.Generator().manual_seed(0))
    was_training = model.training
    model.eval()
    try:
        for images, labels in loader:
            # Not around the yield: the mode would hold in the caller too.
            with torch.inference_mode(), torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != 'float32'):
                images = list(images.to(device, non_blocking=True))
                inputs = model.data_preprocessor({'inputs': images}, False)['inputs']
                tokens = model.backbone.encode(model.backbone.embed(inputs))
                found = {name: _POOL[name](tokens).half().cpu().numpy() for name in names}
            if not all(np.isfinite(rows).all() for rows in found.values()):
                raise ValueError('a feature is NaN, infinite or above 65,504: the model has diverged')
            yield {**found, 'labels': labels.numpy()}
    finally:
        model.train(was_training)


_POOL = {'mean': lambda tokens: tokens[:, 1:].mean(dim=1), 'class': lambda tokens: tokens[:, 0],
         'tokens': lambda tokens: tokens}


def _collate(items: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """Items -> images (B, C, H, W) uint8 and labels (B,), each in one piece: a worker hands over two, not 2 * B."""
    if any(item.get('data_samples') is None for item in items):
        raise ValueError('an image has no class: features are kept for labeled images, such as those of '
                         'mae_backbone.ClassFolder')
    return torch.stack([item['inputs'] for item in items]), torch.tensor([int(item['data_samples']) for item in items])


# ---- files

class _Rows:
    """An .npy file of known shape that is filled row by row, and goes on after `done` rows of an earlier run."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, *, done: int = 0) -> None:
        self.file = open(path, 'r+b' if done else 'wb')  # noqa: SIM115  closed by __exit__
        header = npy_header(shape, dtype)
        self.file.truncate(len(header) + done * int(np.prod(shape[1:])) * dtype.itemsize)
        self.file.write(header)
        self.file.seek(0, os.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(rows))

    def sync(self) -> None:
        """Puts what was appended on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def __enter__(self) -> '_Rows':
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """The first bytes of an .npy file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False,
                                                  'shape': shape})
    return header.getvalue()


def _resume(part: Path, names: Sequence[str], *, total: int) -> int:
    """How many rows of a killed extraction are kept, as it noted them; without any the folder is made anew."""
    try:
        noted = int((part / 'rows').read_text(encoding='utf-8'))
        done = min(noted, *(_whole_rows(part / f'{name}.npy', total) for name in names))
    except (OSError, ValueError):
        done = 0
    if not done:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    return done


def _whole_rows(path: Path, total: int) -> int:
    """Rows in an .npy file that is to have `total` of them."""
    with open(path, 'rb') as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        rows = (path.stat().st_size - file.tell()) // (int(np.prod(shape[1:])) * dtype.itemsize)
    return rows if shape[0] == total else 0


def _mapped(path: Path) -> Tensor:
    """An .npy file as a tensor whose memory is the file's: what is written to it stays with this process."""
    return torch.from_numpy(np.load(path, mmap_mode='c'))


@contextlib.contextmanager
def _alone(where: Path) -> Iterator[None]:
    """One process after the other."""
    with ExitStack() as stack:
        try:
            import fcntl
            handle = stack.enter_context(open(where.with_suffix('.lock'), 'wb'))
            fcntl.flock(handle, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, and file systems without locks: two may do the same work
            pass
        yield
