"""Labeled images get the label of their folder, timm's transforms, and nested fractions."""
import os
import pickle
import random

import numpy as np
import pytest
import torch
from helpers.image_files import difference, make_classes, ramp, save
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.model import ImgDataPreprocessor
from PIL import Image
from torch.utils.data import DataLoader

from mae_backbone.data.class_folder import ClassFolder, evaluation_transform
from mae_backbone.data.decode import BadImageError
from mae_backbone.registry import DATASETS


def test_item_has_the_label_of_its_folder(tmp_path):
    make_classes(tmp_path / 'train', dog=3, cat=2)
    (tmp_path / 'train/.ipynb_checkpoints').mkdir()
    (tmp_path / 'train/list.txt').touch()
    images = ClassFolder(tmp_path, 'train', train=False, image_size=8)
    assert images.metainfo == {'classes': ('cat', 'dog')}
    assert [item['data_samples'] for item in images] == [0, 0, 1, 1, 1]
    assert [int(item['inputs'][0, 0, 0]) for item in images] == [50, 51, 0, 1, 2]
    assert type(images[0]['data_samples']) is int
    turned = ClassFolder(tmp_path, train=False, image_size=8, classes=['dog', 'cat'])
    assert turned.metainfo == {'classes': ('dog', 'cat')}
    assert [item['data_samples'] for item in turned] == [0, 0, 0, 1, 1]
    assert len(ClassFolder(tmp_path / 'train', '', train=False, image_size=8)) == 5


@pytest.mark.parametrize('image_size', [16, (16, 32), [40, 24]])
@pytest.mark.parametrize(('train', 'augment'), [
    (True, None), (True, {'auto_augment': 'rand-m9-mstd0.5-inc1', 'color_jitter': 0.4}), (True, {'no_aug': True}),
    (False, None), (False, {'crop_mode': 'squash', 'crop_pct': 0.5}),
])
def test_item_is_uint8_planes_of_the_requested_size(tmp_path, image_size, train, augment):
    save(tmp_path / 'val/a/1.png')
    images = ClassFolder(tmp_path, 'val', train=train, image_size=image_size, augment=augment)
    item = images[0]['inputs']
    assert item.dtype == torch.uint8
    assert item.shape == (3, *([image_size] * 2 if isinstance(image_size, int) else image_size))
    assert item.float().std() > 5  # not normalized


@pytest.mark.parametrize(('image_size', 'augment', 'side'), [
    (224, None, 256), (32, None, 32), (384, None, 384), (160, None, 182), (32, {'crop_pct': 0.5}, 64),
])
def test_evaluation_resizes_the_shorter_side_and_crops_the_center(tmp_path, image_size, augment, side):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    save(tmp_path / 'val/a/1.png', pixels)
    item = ClassFolder(tmp_path, 'val', train=False, image_size=image_size, augment=augment)[0]['inputs']
    resized = Image.fromarray(pixels).resize((int(side * 64 / 48), side), Image.Resampling.BICUBIC)
    left, top = (round((length - image_size) / 2) for length in resized.size)
    assert difference(item.permute(1, 2, 0), resized.crop((left, top, left + image_size, top + image_size))) <= 1


def test_an_elongated_image_is_cut_before_it_is_enlarged(monkeypatch):
    """timm would enlarge an image of 1 x 60,000 pixels, a file of a kilobyte, to 15 GB."""
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, 'resize', lambda image, size, *options, **named: (
        sizes.append(size), resize(image, size, *options, **named))[1])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4000, 3), dtype=np.uint8)
    assert torch.equal(evaluation_transform(16)(pixels), evaluation_transform(16)(pixels[:, 2000 - 64:2000 + 64]))
    tall = pixels.transpose(1, 0, 2)
    assert torch.equal(evaluation_transform(16)(tall), evaluation_transform(16)(tall[2000 - 64:2000 + 64]))
    assert max(map(max, sizes)) <= 64 * 16


def test_training_only_crops_and_flips_by_default(tmp_path):
    pixels = ramp(64, 64)
    save(tmp_path / 'train/a/1.png', pixels)
    images = ClassFolder(tmp_path, train=True, image_size=32)
    strong = ClassFolder(tmp_path, train=True, image_size=32, augment={'auto_augment': 'rand-m9-mstd0.5-inc1'})

    def twenty(dataset: ClassFolder, seed: int) -> torch.Tensor:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return torch.stack([dataset[0]['inputs'] for _ in range(20)])

    for dataset in (images, strong):
        assert twenty(dataset, 0).equal(twenty(dataset, 0))
        assert not twenty(dataset, 0).equal(twenty(dataset, 1))
    assert twenty(images, 0)[:, 2].unique().tolist() == [100]  # blue is constant: the colors are as they were
    assert len(twenty(strong, 0)[:, 2].unique()) > 1


@pytest.mark.parametrize('policy', ['rand-m10-inc1', 'rand-m9-mstd9-inc1', 'rand-m9', 'original', 'v0', 'augmix'])
def test_timm_policies_work_with_pillow(tmp_path, policy):
    save(tmp_path / 'train/a/1.png')
    images = ClassFolder(tmp_path, train=True, image_size=8, augment={'auto_augment': policy})
    random.seed(0)
    np.random.seed(0)
    for _ in range(100):
        assert images[0]['inputs'].shape == (3, 8, 8)


def test_unknown_options_and_erasing_raise(tmp_path):
    make_classes(tmp_path / 'train', a=1)
    with pytest.raises(ValueError, match=r're_prob: .*random_erasing of mae_backbone\.ViTClassifier'):
        ClassFolder(tmp_path, train=True, augment={'re_prob': 0.25})
    with pytest.raises(ValueError, match=r'augment has autoaugment; with train=True the options are .*auto_augment'):
        ClassFolder(tmp_path, train=True, augment={'autoaugment': 'rand'})
    with pytest.raises(ValueError, match=r'augment has hflip; with train=False the options are crop_pct'):
        ClassFolder(tmp_path, train=False, augment={'hflip': 0.5})


@pytest.mark.parametrize('option', [
    {'no_aug': False}, {'train_crop_mode': 'rrc'}, {'scale': (0.5, 1)}, {'ratio': (1, 1)}, {'hflip': 0}, {'vflip': 0.5},
    {'color_jitter': 0.4}, {'color_jitter_prob': 0.5}, {'grayscale_prob': 1}, {'gaussian_blur_prob': 1},
    {'auto_augment': 'augmix-m3'}, {'interpolation': 'random'}, {'crop_pct': 1}, {'crop_mode': 'border'},
    {'crop_border_pixels': 2},
], ids=str)
def test_timm_accepts_every_allowed_option(tmp_path, option):
    save(tmp_path / 'train/a/1.png')
    train = not next(iter(option)).startswith('crop')
    assert ClassFolder(tmp_path, train=train, image_size=16, augment=option)[0]['inputs'].shape == (3, 16, 16)


def test_smaller_fraction_is_a_subset_per_class(tmp_path):
    make_classes(tmp_path / 'train', a=20, b=10, c=1)

    def chosen(fraction: float, seed: int = 0) -> dict[bytes, int]:
        images = ClassFolder(tmp_path, train=False, image_size=8, fraction=fraction, seed=seed)
        return dict(zip(images.files.tolist(), images.labels.tolist(), strict=True))

    previous = set()
    for fraction, counts in ((0.01, [1, 1, 1]), (0.1, [2, 1, 1]), (0.5, [10, 5, 1]), (1.0, [20, 10, 1])):
        part = chosen(fraction)
        assert np.bincount(list(part.values())).tolist() == counts
        assert list(part) == sorted(part)
        assert all(os.fsdecode(path).split(os.sep)[-2] == 'abc'[label] for path, label in part.items())
        assert previous <= set(part)
        assert part == chosen(fraction)
        previous = set(part)
    assert chosen(0.5) != chosen(0.5, seed=1)
    for fraction in (0, 1.5, -0.1):
        with pytest.raises(ValueError, match=f'fraction={fraction}, expected a fraction'):
            chosen(fraction)


def test_mismatched_splits_and_classes_raise(tmp_path):
    make_classes(tmp_path / 'train', cat=1, dog=1)
    with pytest.raises(FileNotFoundError, match=r"no folder 'val'; its folders: train\. .*--data-root DIR"):
        ClassFolder(tmp_path, 'val', train=False)
    with pytest.raises(FileNotFoundError, match=r'gone does not exist: .*--data-root DIR'):
        ClassFolder(tmp_path / 'gone', train=False)
    make_classes(tmp_path / 'val', dog=1, emu=1)
    # Without this, dog would be label 0 in val and 1 in train.
    with pytest.raises(ValueError, match=r"val has 2 class.*2 of .*train: missing \['cat'\], unexpected \['emu'\]"):
        ClassFolder(tmp_path, 'val', train=False)
    with pytest.raises(ValueError, match=r"val has .*list classes: missing \[\], unexpected \['dog'\]"):
        ClassFolder(tmp_path, 'val', train=False, classes=['emu'])
    with pytest.raises(ValueError, match=r'the 3 of the list classes.*each once'):
        ClassFolder(tmp_path, 'val', train=False, classes=['emu', 'dog', 'emu'])
    assert len(ClassFolder(tmp_path, 'val', train=False, classes=['emu', 'dog'])) == 2
    (tmp_path / 'train/dog/000.png').rename(tmp_path / 'train/dog/000.gif')
    with pytest.raises(ValueError, match=r'dog holds no images.*1 \.gif'):
        ClassFolder(tmp_path, train=False)
    (tmp_path / 'flat').mkdir()
    save(tmp_path / 'flat/a.png')
    with pytest.raises(ValueError, match=r'flat has no class folders: .*--data-root DIR'):
        ClassFolder(tmp_path, 'flat', train=False)


def test_unreadable_labeled_image_raises_with_its_name(tmp_path):
    make_classes(tmp_path / 'train', a=1)
    (tmp_path / 'train/a/000.png').write_bytes(b'')
    with pytest.raises(BadImageError, match=r'000\.png is empty'):
        ClassFolder(tmp_path, train=False)[0]


# ---- in the Runner

def test_config_builds_data_set_for_the_preprocessor(tmp_path):
    make_classes(tmp_path / 'train', a=2, b=2)
    augment = ConfigDict(auto_augment='rand-m9-mstd0.5-inc1')
    for config in ({'type': 'mae_backbone.UnlabeledImages'},
                   {'type': 'mae_backbone.ClassFolder', 'train': True, 'augment': augment}):
        dataset = DATASETS.build(ConfigDict(config, data_root=str(tmp_path), image_size=[16, 24]))
        in_worker = pickle.loads(pickle.dumps(dataset))
        batch = next(iter(DataLoader(in_worker, batch_size=4, collate_fn=pseudo_collate)))
        assert batch.get('data_samples', [0, 0, 1, 1]) == [0, 0, 1, 1]
        images = ImgDataPreprocessor(mean=[100] * 3, std=[50] * 3)(batch)['inputs']
        assert images.shape == (4, 3, 16, 24)
        assert images.dtype == torch.float32
