"""Every image is drawn once an epoch, for any number of processes and from any iteration on."""
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mae_backbone.data.sampler import Draw, PretrainBatchSampler, PretrainSampler


def batches(number: int, batch_size: int, *, seed: int = 0, epoch: int = 0, **options) -> list[list[Draw]]:
    sampler = PretrainBatchSampler(PretrainSampler(range(number), seed=seed), batch_size, **options)
    sampler.set_epoch(epoch)
    result = list(sampler)
    assert len(result) == len(sampler)
    return result


class Indices(Dataset):
    def __getitem__(self, draw: Draw) -> int:
        return draw.index


def flat(batches: Iterable[list[Draw]]) -> list[Draw]:
    return [draw for batch in batches for draw in batch]


def over_processes(number: int, global_batch: int, world_size: int, **options) -> list[list[Draw]]:
    """Global batches, put together again from those of all processes."""
    parts = [batches(number, global_batch // world_size, rank=rank, world_size=world_size, **options)
             for rank in range(world_size)]
    repeats = options.get('repeats', 1)
    return [[draw for i in range(0, global_batch // world_size, repeats) for own in step for draw in own[i:i + repeats]]
            for step in zip(*parts, strict=True)]


@pytest.mark.parametrize('number', [24, 29, 5])
@pytest.mark.parametrize('repeats', [1, 2])
def test_global_batches_do_not_depend_on_the_number_of_processes(number, repeats):
    wanted = over_processes(number, 12, 1, seed=3, epoch=5, repeats=repeats)
    assert len(wanted) == -(-number * repeats // 12)
    for world_size in (2, 3, 6):
        assert over_processes(number, 12, world_size, seed=3, epoch=5, repeats=repeats) == wanted


@pytest.mark.parametrize(('number', 'repeats'), [(1, 1), (7, 1), (24, 1), (29, 1), (29, 4)])
def test_every_crop_is_drawn_once_an_epoch_with_its_own_seed(number, repeats):
    draws = [draw for draw in flat(batches(number, 8, repeats=repeats)) if draw.weight]
    assert np.bincount([draw.index for draw in draws]).tolist() == [repeats] * number
    assert len({draw.seed for draw in draws}) == number * repeats
    assert all(0 <= draw.seed < 2**63 for draw in draws)
    for i in range(0, len(draws), repeats):  # side by side, so that they are decoded once
        assert len({draw.index for draw in draws[i:i + repeats]}) == 1


def test_epochs_and_runs_differ_in_order_and_seeds():
    def of(seed: int, epoch: int) -> list[Draw]:
        return flat(batches(50, 10, seed=seed, epoch=epoch))

    assert of(0, 0) == of(0, 0)
    others = [of(0, 0), of(0, 1), of(1, 0), of(1, 1)]
    assert len({tuple(draw.index for draw in draws) for draws in others}) == 4
    assert len({draw.seed for draws in others for draw in draws}) == 200


def test_seed_of_an_image_does_not_depend_on_the_batch_size():
    one, two = ({draw.index: draw.seed for draw in flat(batches(50, size))} for size in (10, 7))
    assert one == two


@pytest.mark.parametrize(('number', 'world_size', 'repeats'), [(29, 1, 1), (29, 3, 1), (29, 3, 2), (1, 2, 1)])
def test_weights_give_the_mean_over_the_last_images(number, world_size, repeats):
    losses = torch.rand(number, dtype=torch.float64)
    last = over_processes(number, 12, world_size, repeats=repeats)[-1]
    mean = sum(draw.weight * losses[draw.index] for draw in last) / 12
    left = [draw.index for draw in last if draw.weight]
    assert len(left) == number * repeats - 12 * (number * repeats // 12)
    torch.testing.assert_close(mean, losses[left].mean())
    assert len(last) == 12


def test_full_batches_have_weight_1():
    assert all(draw.weight == 1 for batch in batches(29, 10)[:-1] for draw in batch)
    assert batches(29, 10, drop_last=True) == batches(29, 10)[:-1]
    assert len(batches(20, 10, drop_last=True)) == len(batches(20, 10)) == 2


def test_start_inside_the_epoch_equals_skipping_for_one_pass():
    sampler = PretrainBatchSampler(PretrainSampler(range(29), seed=0), 4)
    sampler.set_epoch(3)
    wanted = list(sampler)
    for k in (0, 1, 5, 8):
        sampler.start_at(k)
        assert len(sampler) == 8
        assert list(sampler) == wanted[k:]
        assert list(sampler) == wanted
    for k in (-1, 9):
        with pytest.raises(ValueError, match=rf'iteration {k} of an epoch that has 8: .*other'):
            sampler.start_at(k)


@pytest.mark.parametrize('workers', [0, 2])
def test_loader_with_workers_starts_inside_the_epoch(workers: int):
    sampler = PretrainBatchSampler(PretrainSampler(range(29), seed=0), 4)
    wanted = list(sampler)
    loader = DataLoader(Indices(), batch_sampler=sampler, num_workers=workers, collate_fn=list,
                        persistent_workers=workers > 0)
    for first in (5, 0, 7):
        sampler.start_at(first)
        assert list(loader) == [[draw.index for draw in batch] for batch in wanted[first:]]


def test_order_without_shuffle_equals_the_data_set():
    sampler = PretrainSampler(range(10), seed=0, shuffle=False)
    assert list(sampler) == list(range(10))
    assert [draw.index for draw in flat(PretrainBatchSampler(sampler, 5))] == list(range(10))


def test_order_is_a_fair_shuffle_that_never_changes():
    sampler = PretrainSampler(range(6), seed=0)
    counts = np.zeros((6, 6))
    for epoch in range(3000):
        sampler.set_epoch(epoch)
        counts[range(6), list(sampler)] += 1
    assert np.abs(counts - 500).max() < 90  # 4.4 standard deviations
    sampler.set_epoch(0)
    assert list(sampler) == [5, 0, 3, 2, 1, 4]
    assert next(iter(PretrainBatchSampler(sampler, 2))) == [Draw(5, 3477247941841255067), Draw(0, 4347993774885956143)]


def test_ten_million_images_need_four_bytes_each():
    sampler = PretrainSampler(range(10_000_000), seed=0)
    assert sampler.order().nbytes == 40_000_000
    batches = PretrainBatchSampler(sampler, 64)
    assert len(list(islice(batches, 3))) == 3


@pytest.mark.parametrize(('options', 'message'), [
    ({'batch_size': 0}, 'batch_size=0'), ({'repeats': 3}, 'multiple of repeats'), ({'repeats': 0}, 'repeats=0'),
    ({'drop_last': True, 'batch_size': 12, 'rank': 0, 'world_size': 30}, 'images for 30 processes'),
])
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        PretrainBatchSampler(PretrainSampler(range(11), seed=0), **({'batch_size': 4} | options))
    with pytest.raises(ValueError, match=r"set sampler=dict\(type='mae_backbone.PretrainSampler'"):
        PretrainBatchSampler(range(4), 2)


def test_sizes_follow_the_epoch_in_the_draws():
    sizes = [(0, 160), (3, [192, 96]), (5, 224)]
    for epoch, wanted in enumerate([(160, 160)] * 3 + [(192, 96)] * 2 + [(224, 224)] * 2):
        (batch,) = batches(4, 4, epoch=epoch, image_sizes=sizes)
        assert [draw.size for draw in batch] == [wanted] * 4
    assert batches(4, 4)[0][0].size is None
    for wrong in ([(1, 160)], [(0, 160), (0, 224)], [(0, 160), (9, 192), (4, 224)], [(0,)], [(0, 0)], [(0, 'large')]):
        with pytest.raises(ValueError, match='image_size'):
            batches(4, 4, image_sizes=wrong)


class Echo(Dataset):
    def __len__(self) -> int:
        return 10

    def __getitems__(self, draws: list[Draw]) -> list[Draw]:
        return draws


def test_config_builds_samplers_and_hook_sets_the_epoch():
    config = ConfigDict(
        batch_size=4, num_workers=1, persistent_workers=True, sampler=dict(type='mae_backbone.PretrainSampler'),
        batch_sampler=dict(type='mae_backbone.PretrainBatchSampler'), collate_fn=dict(type='mae_backbone.as_is'))
    torch.manual_seed(7)
    for seed, differ in ((7, False), (7, True), (None, False)):  # with diff_rank_seed the sampler is given none
        loader = Runner.build_dataloader({**config, 'dataset': Echo()}, seed, differ)
        runner = type('Runner', (), {'epoch': 4, 'train_loop': type('Loop', (), {'dataloader': loader})})
        for _ in range(2):
            DistSamplerSeedHook().before_train_epoch(runner)
            assert len(loader) == 3
            assert list(loader) == batches(10, 4, seed=7, epoch=4)
        loader._iterator._shutdown_workers()  # they persist until the loader is collected
