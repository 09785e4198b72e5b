"""Maps that come in bands of rows against the same maps laid out as a whole."""
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.tiles import grid


@pytest.fixture(params=[1, 300, 2 ** 24], ids=['a row', 'a few rows', 'all'])
def _rows_at_once(request, monkeypatch):
    monkeypatch.setattr(chunked_logits, 'BAND', request.param)


@pytest.mark.usefixtures('_rows_at_once')
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('new', [(17, 30), (40, 31), (9, 7), (23, 19), (1, 1), (23, 40)])
def test_resizing_bands_is_resizing_the_map(new, align_corners):
    logits = torch.randn(3, 23, 19)
    bands = chunked_logits.split(logits)
    found = torch.cat(list(chunked_logits.resized(bands, (23, 19), new, align_corners=align_corners)), dim=1)
    expected = F.interpolate(logits[None], new, mode='bilinear', align_corners=align_corners)[0]
    assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures('_rows_at_once')
@pytest.mark.parametrize(('side', 'stride'), [((8, 9), (5, 4)), ((8, 9), (8, 9)), ((40, 40), (5, 5)), ((7, 7), (1, 3))])
def test_averaging_tiles_in_bands_is_averaging_them_at_once(side, stride):
    tiles = grid((23, 19), side, stride)
    logits = {tile: torch.randn(3, tile.height, tile.width) for tile in tiles}
    total, count = torch.zeros(3, 23, 19), torch.zeros(1, 23, 19)
    for tile, value in logits.items():
        total[(..., *tile.slices)] += value
        count[(..., *tile.slices)] += 1
    assert_close(torch.cat(list(chunked_logits.averaged(tiles, 19, logits.get)), dim=1), total / count)


def test_no_more_than_a_row_of_tiles_is_held():
    """Rows of tiles that are done are given out before the next ones are looked at."""
    asked = []
    tiles = grid((50, 20), (10, 20), (8, 20))
    given = chunked_logits.averaged(
        tiles, 20, lambda tile: asked.append(tile.top) or torch.zeros(2, tile.height, tile.width))
    assert next(given).shape == (2, 8, 20)
    assert asked == [0]
    assert next(given).shape == (2, 8, 20)
    assert asked == [0, 8]


def test_large_rows_of_tiles_are_kept_in_half_precision(monkeypatch):
    monkeypatch.setattr(chunked_logits, 'ON_DEVICE', 0)
    tiles = grid((23, 19), (8, 9), (5, 4))
    logits = {tile: torch.randn(3, tile.height, tile.width) for tile in tiles}
    found = torch.cat(list(chunked_logits.averaged(tiles, 19, logits.get)), dim=1)
    monkeypatch.undo()
    expected = torch.cat(list(chunked_logits.averaged(tiles, 19, logits.get)), dim=1)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.01


@pytest.mark.usefixtures('_rows_at_once')
def test_cropping_and_labelling_bands():
    logits = torch.randn(4, 20, 11)
    found = chunked_logits.labels(chunked_logits.cropped(chunked_logits.split(logits), 3, 2, 12, 7))
    assert found.equal(logits[:, 3:15, 2:9].argmax(0))


def test_one_logit_is_compared_with_a_threshold():
    logits = torch.tensor([[[-5.0, 0.2, 5.0]]])
    assert chunked_logits.labels([logits], threshold=0.6).tolist() == [[0, 0, 1]]
