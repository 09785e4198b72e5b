"""Logits that come in chunks of rows, against the same logits as one tensor."""
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.tiles import grid


@pytest.fixture(params=[1, 300, 2 ** 24], ids=['a row', 'a few rows', 'all'])
def _chunk_numel(request, monkeypatch):
    monkeypatch.setattr(chunked_logits, 'CHUNK_NUMEL', request.param)


@pytest.mark.usefixtures('_chunk_numel')
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('new', [(17, 30), (40, 31), (9, 7), (23, 19), (1, 1), (23, 40)])
def test_resized_chunks_equal_interpolate(new, align_corners):
    logits = torch.randn(3, 23, 19)
    chunks = chunked_logits.split_rows(logits)
    result = torch.cat(list(chunked_logits.resize(chunks, (23, 19), new, align_corners=align_corners)), dim=1)
    expected = F.interpolate(logits[None], new, mode='bilinear', align_corners=align_corners)[0]
    assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures('_chunk_numel')
@pytest.mark.parametrize(('side', 'stride'), [((8, 9), (5, 4)), ((8, 9), (8, 9)), ((40, 40), (5, 5)), ((7, 7), (1, 3))])
def test_averaged_chunks_equal_average_of_whole_tensor(side, stride):
    tiles = grid((23, 19), side, stride)
    logits = {tile: torch.randn(3, tile.height, tile.width) for tile in tiles}
    total, count = torch.zeros(3, 23, 19), torch.zeros(1, 23, 19)
    for tile, value in logits.items():
        total[(..., *tile.slices)] += value
        count[(..., *tile.slices)] += 1
    assert_close(torch.cat(list(chunked_logits.average_tiles(tiles, 19, logits.get)), dim=1), total / count)


def test_one_row_of_tiles_is_held_at_a_time():
    """Complete rows are yielded before the next tiles are requested."""
    requested = []
    tiles = grid((50, 20), (10, 20), (8, 20))
    chunks = chunked_logits.average_tiles(
        tiles, 20, lambda tile: requested.append(tile.top) or torch.zeros(2, tile.height, tile.width))
    assert next(chunks).shape == (2, 8, 20)
    assert requested == [0]
    assert next(chunks).shape == (2, 8, 20)
    assert requested == [0, 8]


def test_large_rows_of_tiles_are_kept_in_half_precision(monkeypatch):
    monkeypatch.setattr(chunked_logits, 'DEVICE_BYTES', 0)
    tiles = grid((23, 19), (8, 9), (5, 4))
    logits = {tile: torch.randn(3, tile.height, tile.width) for tile in tiles}
    result = torch.cat(list(chunked_logits.average_tiles(tiles, 19, logits.get)), dim=1)
    monkeypatch.undo()
    expected = torch.cat(list(chunked_logits.average_tiles(tiles, 19, logits.get)), dim=1)
    assert result.dtype == torch.float32
    assert 0 < (result - expected).abs().max() < 0.01


@pytest.mark.usefixtures('_chunk_numel')
def test_labels_of_cropped_chunks():
    logits = torch.randn(4, 20, 11)
    result = chunked_logits.predict_labels(chunked_logits.crop(chunked_logits.split_rows(logits), 3, 2, 12, 7))
    assert result.equal(logits[:, 3:15, 2:9].argmax(0))


def test_single_logit_is_compared_with_threshold():
    logits = torch.tensor([[[-5.0, 0.2, 5.0]]])
    assert chunked_logits.predict_labels([logits], threshold=0.6).tolist() == [[0, 0, 1]]
