"""Repeat factor sampling: how often images are drawn, and which classes they show."""
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import write_class_folders, write_label_maps

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.data.repeat_factors import RepeatFactorSampler, classes_of_images


class Images:
    """Eight images: all but the last show class 0, two show class 1, one shows class 2, the last shows none."""

    def __len__(self) -> int:
        return 8

    def get_cat_ids(self, i: int) -> list[int]:
        return [[0, 0, 2, 1], [1, 0], [0], [0], [0], [0], [0], []][i]


FACTORS = [6 ** 0.5, 3 ** 0.5, 1, 1, 1, 1, 1, 1]  # sqrt(threshold / fraction)


def sampler(seed: int = 0) -> RepeatFactorSampler:
    return RepeatFactorSampler(Images(), threshold=0.75, seed=seed)


def first(indices: Sequence[int], number: int = 40) -> list[int]:
    return [*itertools.islice(indices, number)]


def test_images_repeat_by_the_factor_of_their_rarest_class():
    ours = sampler()
    np.testing.assert_allclose(ours.factors, FACTORS)
    counts = np.array([np.bincount(ours.order(epoch), minlength=8) for epoch in range(2000)])
    assert (np.floor(FACTORS) <= counts).all()
    assert (counts <= np.ceil(FACTORS)).all()
    np.testing.assert_allclose(counts.mean(0), FACTORS, atol=0.04)


def test_epoch_depends_only_on_seed_and_number():
    epochs = [sampler(seed).order(epoch).tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len({*map(tuple, epochs)}) == 4
    assert first(sampler(), len(epochs[0] + epochs[1])) == epochs[0] + epochs[1]


def test_processes_take_turns_and_continue_after_a_resume():
    ranks = [sampler() for _ in range(3)]
    for rank, rank_sampler in enumerate(ranks):
        rank_sampler.rank, rank_sampler.world_size = rank, 3
    dealt = [first(rank_sampler) for rank_sampler in ranks]
    assert [*itertools.chain.from_iterable(zip(*dealt, strict=True))] == first(sampler(), 120)
    ranks[2].skip(25)
    assert first(ranks[2], 15) == dealt[2][25:]


def test_classes_of_class_folders(tmp_path: Path):
    write_class_folders(tmp_path, 'train')
    assert classes_of_images(ClassFolder(tmp_path, train=False, image_size=16)) == [{0}, {0}, {1}, {1}]


def test_classes_of_label_maps_without_ignored_pixels(tmp_path: Path):
    import mmseg.datasets  # noqa: F401  registers its transforms
    from mmseg.datasets import BaseSegDataset
    write_label_maps(tmp_path, labels=(0, 2, 255))
    dataset = BaseSegDataset(
        data_root=str(tmp_path), data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        metainfo=dict(classes=('sky', 'road', 'car')), reduce_zero_label=False, ignore_index=255,
        pipeline=[dict(type='mmseg.LoadImageFromFile'), dict(type='mmseg.LoadAnnotations'),
                  dict(type='mmseg.RandomFlip', prob=0.5)])
    assert classes_of_images(dataset) == [{0, 2}] * 3


def test_other_data_sets_are_refused():
    with pytest.raises(ValueError, match='does not know the classes of the images of list'):
        RepeatFactorSampler([1, 2], threshold=0.1)
