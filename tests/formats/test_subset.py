"""Subsets of the labels: which images are kept, and that training reads only these."""
import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import (
    class_folder_config,
    coco_config,
    coco_content,
    label_map_config,
    write_coco,
    write_label_maps,
)
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mae_backbone.cli import train, training
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.formats.dataset_spec import DataError, dataset_specs
from mae_backbone.formats.subset import covering_order
from mae_backbone.planning.adapt_config import adapt_classes, subset_labels

RARE = {3: {0, 1}, 17: {2}, 40: {1, 3}}  # classes that some of 50 images show besides class 0


def shown(i: int) -> set[int]:
    return {0} | RARE.get(i, set())


@pytest.mark.parametrize('seed', range(5))
def test_first_images_show_every_class_and_the_order_has_all_images(seed: int):
    order, covered = covering_order(50, shown, 4, seed)
    assert sorted(order) == list(range(50))
    assert covered[-1] == 4
    assert len(covered) <= 4
    for count in range(1, len(covered) + 1):
        assert len(set().union(*map(shown, order[:count]))) == covered[count - 1]


def test_order_depends_only_on_its_seed():
    assert covering_order(50, shown, 4, 1) == covering_order(50, shown, 4, 1)
    assert covering_order(50, shown, 4, 1)[0] != covering_order(50, shown, 4, 2)[0]


def test_class_that_no_image_shows_does_not_matter():
    order, covered = covering_order(50, shown, 5, 0)
    assert sorted(order) == list(range(50))
    assert covered[-1] == 4


def test_without_rare_classes_all_subsets_are_equally_likely():
    """Each image is among the first half as often as not: 200 draws, 5 standard deviations."""
    counts = np.zeros(50)
    for seed in range(200):
        counts[covering_order(50, lambda _: {0}, 1, seed)[0][:25]] += 1
    assert np.abs(counts - 100).max() < 5 * (200 * 0.25) ** 0.5


def trained_on(cfg: Config) -> list[str]:
    """The names of the images that the training set of a config reads, as the Runner builds it."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        dataset = DATASETS.build(dict(cfg.train_dataloader.dataset))
    inner = dataset
    while hasattr(inner, 'dataset'):
        inner = inner.dataset
    return [Path(inner.get_data_info(i)['img_path']).stem for i in range(len(inner))]


def write_many(root: Path, count: int = 20) -> None:
    """Label maps of sky and road, of which only one has a car."""
    write_label_maps(root)
    for folder, suffix in (('images', 'jpg'), ('annotations', 'png')):
        for path in (root / folder / 'training').iterdir():
            path.unlink()
        for i in range(count):
            pixels = np.full((16, 16), i % 2 if i != 13 else 2, np.uint8)
            Image.fromarray(pixels).save(root / folder / 'training' / f'{i:02}.{suffix}')


def with_labels(fraction: float, seed: int, cfg: Config) -> tuple[list[str], list[str]]:
    adapt_classes(cfg)
    lines = subset_labels(cfg, fraction, seed=seed)
    return lines, trained_on(cfg)


@pytest.mark.parametrize('seed', range(3))
def test_smaller_fraction_is_a_subset_of_a_larger_one(tmp_path: Path, seed: int):
    write_many(tmp_path)
    subsets = [with_labels(fraction, seed, label_map_config(tmp_path)) for fraction in (0.15, 0.3, 1.0)]
    for (lines, few), (_, more) in pairwise(subsets):
        assert set(few) < set(more)
        assert lines[0].endswith(f'which show 3 of 3 classes (seed {seed})')
    assert [len(names) for _, names in subsets] == [3, 6, 20]
    assert all('13' in names for _, names in subsets), 'the only image with a car'
    assert subsets[0][0] == [f'labels: 3 of 20 training images, which show 3 of 3 classes (seed {seed})']


def test_plan_counts_the_classes_of_the_kept_images(tmp_path: Path):
    write_many(tmp_path)
    lines, names = with_labels(0.01, 0, label_map_config(tmp_path))
    assert len(names) == 1
    assert '1 of 20 training images, which show 1 of 3 classes' in lines[0]


def test_coco_subset_is_chosen_from_the_images_that_mmdet_trains_on(tmp_path: Path):
    """Image c has no annotation and is filtered out; b has only a crowd, which is not an example of its class."""
    content = coco_content()
    for split in ('train', 'val'):
        write_coco(tmp_path, content, split=split)
    lines, names = with_labels(0.5, 0, coco_config(tmp_path))
    assert lines == ['labels: 1 of 2 training images, which show 2 of 2 classes (seed 0)']
    assert names == ['a']
    assert with_labels(1.0, 0, coco_config(tmp_path))[1] == ['a', 'b']


def test_class_folders_keep_a_fraction_of_each_class(tmp_path: Path):
    for name, count in (('cat', 10), ('dog', 2)):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for i in range(count):
            Image.new('RGB', (8, 8)).save(tmp_path / 'train' / name / f'{i}.png')
    cfg = class_folder_config(tmp_path)
    lines = subset_labels(cfg, 0.3, seed=4)
    assert lines == [f'labels: 0.3 of the images of each class in {tmp_path} (seed 4)']
    spec, = dataset_specs(cfg, 'train')
    options = {key: value for key, value in spec.cfg.items() if key != 'type'}
    assert np.bincount(ClassFolder(**options).labels).tolist() == [3, 1]


@pytest.mark.parametrize(('fraction', 'words'), [
    (0.0, 'expected a fraction'), (10.0, r'in \(0, 1\], such as 0.1 for 10 %')])
def test_invalid_fractions_are_refused(tmp_path: Path, fraction: float, words: str):
    with pytest.raises(DataError, match=words):
        subset_labels(label_map_config(tmp_path), fraction)


def test_data_without_labels_are_refused(tmp_path: Path):
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='mae_backbone.UnlabeledImages', data_root='x'))))
    with pytest.raises(DataError, match='has no labels'):
        subset_labels(cfg, 0.1)


def test_indices_in_the_config_are_refused(tmp_path: Path):
    write_label_maps(tmp_path)
    cfg = label_map_config(tmp_path, indices=2)
    with pytest.raises(DataError, match='already has indices'):
        subset_labels(cfg, 0.1)


def test_command_line_sets_fraction_and_seed(tmp_path: Path):
    write_many(tmp_path)
    cfg = label_map_config(tmp_path)
    cfg.update(optim_wrapper=dict(optimizer=dict(lr=1e-3)), launcher='none', work_dir=str(tmp_path / 'w'))
    cfg.train_dataloader.batch_size = 2
    adapt_classes(cfg)
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    args = parser.parse_args(['config.py', '--labels', '0.3', '--seed', '7'])
    assert '(seed 7)' in training.prepare_training(cfg, args)[0]
    assert cfg.randomness == dict(seed=7)
    assert len(trained_on(cfg)) == 6
