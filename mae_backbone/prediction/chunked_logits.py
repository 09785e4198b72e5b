"""Logits of all classes at the size of an image, a band of rows at a time: laid out as a whole they may fill gigabytes.

C classes; a band is (C, n, W), bands follow one another from the top of the image to its foot.
"""
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from mae_backbone.prediction.tiles import Tile

# Ours: the numbers of a band, which in float32 takes 64 MiB, and the bytes above which a row of tiles is kept on the
# CPU in half precision: 3 tiles of 512 pixels and 150 classes beside one another in float32.
BAND = 2 ** 24
ON_DEVICE = 2 ** 29


def averaged(tiles: Sequence[Tile], width: int, logits_of: Callable[[Tile], Tensor]) -> Iterator[Tensor]:
    """The mean of what overlapping tiles say, in bands; no more than a row of tiles is held.

    Args:
        tiles: as of `grid`.
        width: of the image.
        logits_of: (C, height, width) of a tile.
    """
    held, count, begin = None, None, 0
    for top, row in groupby(tiles, key=lambda tile: tile.top):
        if held is not None:  # what is above this row is complete
            yield from _mean(held[:, :top - begin], count[:, :top - begin])
            held, count, begin = held[:, top - begin:], count[:, top - begin:], top
        for tile in row:
            logits = logits_of(tile)
            if held is None or held.shape[1] < tile.height:
                held, count = (_longer(part, like, tile.height, width) for part, like in
                               ((held, _for_rows(logits, width)), (count, logits[:1].float().cpu())))
            columns = slice(tile.left, tile.left + tile.width)
            held[:, :tile.height, columns] += logits.to(held)
            count[:, :tile.height, columns] += 1
    yield from _mean(held, count)


def _for_rows(logits: Tensor, width: int) -> Tensor:
    """logits of a tile -> an empty tensor of the device and type that a row of such tiles is kept in."""
    bytes_needed = 4 * logits.shape[0] * logits.shape[1] * width
    return logits[..., :0].float() if bytes_needed <= ON_DEVICE else logits[..., :0].cpu().half()


def _longer(part: Tensor | None, like: Tensor, height: int, width: int) -> Tensor:
    """part (C, n, width), or nothing -> (C, height, width), filled up with zeros of the type of `like`."""
    longer = (like if part is None else part).new_zeros(like.shape[0], height, width)
    if part is not None:
        longer[:, :part.shape[1]] = part
    return longer


def _mean(total: Tensor, count: Tensor) -> Iterator[Tensor]:
    for rows, number in zip(split(total), count.split(_rows(total), dim=1), strict=True):
        yield rows.float() / number.to(rows.device)


def split(logits: Tensor) -> Iterator[Tensor]:
    """logits (C, H, W) -> bands."""
    return iter(logits.split(_rows(logits), dim=1))


def _rows(logits: Tensor) -> int:
    """How many rows of such a map make a band."""
    return max(1, BAND // (logits.shape[0] * logits.shape[2]))


def cropped(bands: Iterable[Tensor], top: int, left: int, height: int, width: int) -> Iterator[Tensor]:
    """A part of a map."""
    begin = 0
    for band in bands:
        first, last = max(top - begin, 0), min(top + height - begin, band.shape[1])
        if first < last:
            yield band[:, first:last, left:left + width]
        begin += band.shape[1]


def resized(bands: Iterable[Tensor], old: tuple[int, int], new: tuple[int, int], *,
            align_corners: bool = False) -> Iterator[Tensor]:
    """A map of size `old` (H, W) at size `new`, bilinearly, as `torch.nn.functional.interpolate` does it at once."""
    if old == new:
        yield from bands
        return
    above, share = _sources(old[0], new[0], align_corners)
    below = (above + 1).clamp(max=old[0] - 1)
    held, begin, done = None, 0, 0
    for band in bands:
        held = band if held is None else torch.cat([held, band], dim=1)
        ready = int(torch.searchsorted(below, begin + held.shape[1]))  # of the new rows
        step = max(1, BAND // (held.shape[0] * max(old[1], new[1])))
        for first in range(done, ready, step):
            rows = slice(first, min(first + step, ready))
            upper, lower = (held[:, (index[rows] - begin).to(held.device)].float() for index in (above, below))
            mixed = torch.lerp(upper, lower, share[rows, None].to(held.device))
            yield F.interpolate(mixed[None], (mixed.shape[1], new[1]), mode='bilinear', align_corners=align_corners)[0]
        done = ready
        if done < new[0]:
            over = min(int(above[done]) - begin, held.shape[1])
            held, begin = held[:, over:], begin + over


def _sources(old: int, new: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    """For each of `new` rows the one of `old` rows above it, and the share of the next one."""
    rows = torch.arange(new, dtype=torch.float64)
    at = rows * (old - 1) / max(new - 1, 1) if align_corners else ((rows + 0.5) * old / new - 0.5).clamp(min=0)
    above = at.floor().long().clamp(max=old - 1)
    return above, (at - above).float()


def labels(bands: Iterable[Tensor], *, threshold: float | None = None) -> Tensor:
    """Bands -> the class of each pixel (H, W) int64 on the CPU; with one logit, whether its sigmoid is above."""
    return torch.cat([(band[0].sigmoid() > threshold).long().cpu() if len(band) == 1 and threshold is not None
                      else band.argmax(0).cpu() for band in bands])
