"""Logits of all classes at image size, in chunks of rows, because a single tensor could take gigabytes.

C is the number of classes. A chunk is a tensor (C, n, W) of n rows. The chunks of an image are in order from top to
bottom.
"""
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from mae_backbone.prediction.tiles import Tile

# Our choice. Number of elements of a chunk: 64 MiB in float32.
CHUNK_NUMEL = 2 ** 24
# If a row of tiles needs more bytes in float32, it is kept on the CPU in float16. The limit corresponds to 3 tiles of
# 512 pixels with 150 classes.
DEVICE_BYTES = 2 ** 29


def average_tiles(tiles: Sequence[Tile], width: int, logits_of: Callable[[Tile], Tensor]) -> Iterator[Tensor]:
    """Yields the mean of the logits of overlapping tiles, in chunks. Only one row of tiles is in memory at a time.

    Args:
        tiles: tiles of an image, as `grid` returns them.
        width: width of the image in pixels.
        logits_of: function that returns the logits (C, height, width) of a tile.
    """
    total, count, begin = torch.empty(0, 0, 0), torch.empty(0, 0, 0), 0
    for top, row in groupby(tiles, key=lambda tile: tile.top):
        if total.numel():  # the rows above this row of tiles are complete
            yield from _mean(total[:, :top - begin], count[:, :top - begin])
            total, count, begin = total[:, top - begin:], count[:, top - begin:], top
        for tile in row:
            logits = logits_of(tile)
            if not total.numel():
                total, count = _buffer(logits, width), logits.new_empty(1, 0, width, dtype=torch.float32, device='cpu')
            if total.shape[1] < tile.height:
                total, count = _pad_rows(total, tile.height), _pad_rows(count, tile.height)
            columns = slice(tile.left, tile.left + tile.width)
            total[:, :tile.height, columns] += logits.to(total)
            count[:, :tile.height, columns] += 1
    yield from _mean(total, count)


def _buffer(logits: Tensor, width: int) -> Tensor:
    """Returns an empty tensor (C, 0, width) to which a row of tiles is added, with the device and dtype for its size.

    Args:
        logits: logits (C, h, w) of the first tile.
        width: width of the image in pixels.
    """
    keep = 4 * logits.shape[0] * logits.shape[1] * width <= DEVICE_BYTES
    return logits.new_empty(logits.shape[0], 0, width, dtype=torch.float32 if keep else torch.float16,
                            device=logits.device if keep else 'cpu')


def _pad_rows(tensor: Tensor, height: int) -> Tensor:
    """tensor (C, n, width) -> (C, height, width), with zeros in the new rows."""
    return F.pad(tensor, (0, 0, 0, height - tensor.shape[1]))


def _mean(total: Tensor, count: Tensor) -> Iterator[Tensor]:
    for rows, number in zip(split_rows(total), count.split(_rows_per_chunk(total), dim=1), strict=True):
        yield rows.float() / number.to(rows.device)


def split_rows(logits: Tensor) -> Iterator[Tensor]:
    """Splits logits (C, H, W) into chunks."""
    return iter(logits.split(_rows_per_chunk(logits), dim=1))


def _rows_per_chunk(logits: Tensor) -> int:
    return max(1, CHUNK_NUMEL // (logits.shape[0] * logits.shape[2]))


def crop(chunks: Iterable[Tensor], top: int, left: int, height: int, width: int) -> Iterator[Tensor]:
    """Crops the logits of an image, given in chunks, to a box in pixels."""
    begin = 0
    for chunk in chunks:
        first, last = max(top - begin, 0), min(top + height - begin, chunk.shape[1])
        if first < last:
            yield chunk[:, first:last, left:left + width]
        begin += chunk.shape[1]


def resize(chunks: Iterable[Tensor], old: tuple[int, int], new: tuple[int, int], *,
           align_corners: bool = False) -> Iterator[Tensor]:
    """Resizes the logits of an image, given in chunks, like bilinear `torch.nn.functional.interpolate`.

    Args:
        chunks: chunks of the logits.
        old: (H, W) of the logits.
        new: (H, W) of the result.
        align_corners: as in `interpolate`.
    """
    if old == new:
        yield from chunks
        return
    above, fraction = _source_rows(old[0], new[0], align_corners)
    below = (above + 1).clamp(max=old[0] - 1)
    held, begin, done = None, 0, 0
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        ready = int(torch.searchsorted(below, begin + held.shape[1]))  # new rows whose source rows are available
        step = max(1, CHUNK_NUMEL // (held.shape[0] * max(old[1], new[1])))
        for first in range(done, ready, step):
            rows = slice(first, min(first + step, ready))
            upper, lower = (held[:, (index[rows] - begin).to(held.device)].float() for index in (above, below))
            mixed = torch.lerp(upper, lower, fraction[rows, None].to(held.device))
            yield F.interpolate(mixed[None], (mixed.shape[1], new[1]), mode='bilinear', align_corners=align_corners)[0]
        done = ready
        if done < new[0]:
            unused = min(int(above[done]) - begin, held.shape[1])
            held, begin = held[:, unused:], begin + unused


def _source_rows(old: int, new: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    """Returns for each of `new` rows the index of the `old` row above it, and the weight of the `old` row below it."""
    rows = torch.arange(new, dtype=torch.float64)
    at = rows * (old - 1) / max(new - 1, 1) if align_corners else ((rows + 0.5) * old / new - 0.5).clamp(min=0)
    above = at.floor().long().clamp(max=old - 1)
    return above, (at - above).float()


def predict_labels(chunks: Iterable[Tensor], *, threshold: float | None = None) -> Tensor:
    """Returns the label (H, W) int64 of each pixel, on the CPU.

    Args:
        chunks: chunks of the logits.
        threshold: for a model with a single logit, the probability above which a pixel has the label 1.
    """
    return torch.cat([(chunk[0].sigmoid() > threshold).long().cpu() if len(chunk) == 1 and threshold is not None
                      else chunk.argmax(0).cpu() for chunk in chunks])


def predict_confidence(chunks: Iterable[Tensor], *, threshold: float | None = None) -> tuple[Tensor, Tensor]:
    """Returns the labels (H, W) of `predict_labels`, and their probabilities (H, W) float32, on the CPU."""
    labels, confidence = [], []
    for chunk in chunks:
        labels.append(predict_labels([chunk], threshold=threshold))
        if len(chunk) == 1 and threshold is not None:
            positive = chunk[0].sigmoid().cpu()
            confidence.append(torch.where(labels[-1] == 1, positive, 1 - positive))
        else:
            confidence.append((chunk.amax(0) - chunk.logsumexp(0)).exp().cpu())
    return torch.cat(labels), torch.cat(confidence)
