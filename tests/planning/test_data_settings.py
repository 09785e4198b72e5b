"""Settings of a config that do not fit the images are found, and the options of the warnings mend them."""
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.config_files import CONFIGS, load, scope
from helpers.image_statistics import write_noise
from helpers.small_sets import coco_config, label_map_config, write_label_maps
from mmengine.config import Config

from mae_backbone.checkpoints.facts import Facts
from mae_backbone.cli.config import check_keys, parse_options
from mae_backbone.data.decode import read_image
from mae_backbone.formats.registry import formats_in
from mae_backbone.planning import data_settings
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root
from mae_backbone.planning.data_settings import setting_warnings
from mae_backbone.planning.image_sample import sample_images

IMAGENET = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
DEMO = 'configs/demo/'


def write_coco(root: Path, sides: list[int], size: tuple[int, int] = (200, 300), **pixels) -> Path:
    """One image for each side, with a square object of that side."""
    for split in ('train', 'val'):
        images, annotations = [], []
        for number, side in enumerate(sides, 1):
            write_noise(root / split / f'{number}.png', size, seed=number, **pixels)
            images.append(dict(id=number, file_name=f'{number}.png', height=size[0], width=size[1]))
            corners = [0, 0, side, 0, side, side, 0, side]
            annotations.append(dict(id=number, image_id=number, category_id=1, bbox=[0, 0, side, side], iscrowd=0,
                                    area=side ** 2, segmentation=[corners]))
        path = root / 'annotations' / f'instances_{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(images=images, annotations=annotations,
                                        categories=[dict(id=1, name='nucleus')])))
    return root


def config(file: str, root: Path) -> Config:
    cfg = load(file)
    replace_data_root(cfg, str(root))
    adapt_classes(cfg)
    return cfg


def mended(cfg: Config, warning: str) -> list[str]:
    """Warnings after the options of a warning are applied as the command line applies them."""
    text = re.search(r'Write --cfg-options (.*?)(, unless|, which fits|, or| for |$)', warning)[1]
    options = parse_options(shlex.split(text))
    check_keys(cfg, options)
    cfg.merge_from_dict(options)
    return setting_warnings(cfg)


@pytest.mark.parametrize('file', [
    DEMO + 'mae_vit-micro_nuclei.py', DEMO + 'vit-micro_finetune_cifar10.py', DEMO + 'mask-rcnn_vit-micro_nuclei.py',
    DEMO + 'upernet_vit-micro_camvid.py'])
def test_mean_and_std_of_another_set_are_found_and_mended(file: str, tmp_path: Path):
    own = dict(mean=(230, 40, 30), std=(9, 8, 7))
    task_root = {'mae': 'train', 'vit': '', 'mask': '', 'upernet': ''}[Path(file).name.split('-')[0].split('_')[0]]
    if 'nuclei' in file:
        write_coco(tmp_path, [20, 20, 30], **own)
    elif 'camvid' in file:
        write_label_maps(tmp_path)
        write_label_maps(tmp_path, 'validation')
        for path in tmp_path.glob('images/training/*.jpg'):
            write_noise(path, (64, 64), **own)
    else:
        for path in ('train/cat', 'train/dog', 'val/cat', 'val/dog'):
            write_noise(tmp_path / path / '1.png', (32, 32), **own)
    cfg = config(file, tmp_path / task_root)
    warnings = [line for line in setting_warnings(cfg) if 'mean and std' in line]
    assert len(warnings) == 1
    mean = [float(number) for number in re.search(r'mean=\[(.*?)\]', warnings[0])[1].split(',')]
    # The order of the channels is that of the preprocessor, red first.
    assert mean == pytest.approx(own['mean'], abs=4)
    assert not [line for line in mended(cfg, warnings[0]) if 'mean and std' in line]


def test_normalization_of_the_weights_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_coco(tmp_path, [20], mean=(230, 40, 30), std=(9, 8, 7))
    cfg = config(DEMO + 'mask-rcnn_vit-micro_nuclei.py', tmp_path)
    (tmp_path / 'weights.pth').touch()
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    for mean, expected in (([37.0] * 3, 0), ([99.0] * 3, 1)):
        monkeypatch.setattr(data_settings, 'read_facts', lambda path, key, mean=mean: Facts(mean=mean, std=[63.0] * 3))
        assert len(setting_warnings(cfg)) == expected
    cfg.model.data_preprocessor.update(mean='checkpoint', std='checkpoint')
    assert setting_warnings(cfg) == []


def test_channels_are_compared_in_the_order_of_the_preprocessor(tmp_path: Path):
    write_coco(tmp_path, [20], mean=(200, 60, 60), std=(20, 20, 20))
    cfg = config(DEMO + 'mask-rcnn_vit-micro_nuclei.py', tmp_path)
    cfg.model.data_preprocessor.update(mean=[200, 60, 60], std=[20, 20, 20], bgr_to_rgb=True)
    assert not setting_warnings(cfg)
    cfg.model.data_preprocessor.update(mean=[60, 60, 200], bgr_to_rgb=False)
    assert not setting_warnings(cfg)
    cfg.model.data_preprocessor.update(mean=[200, 60, 60])
    assert len(setting_warnings(cfg)) == 1


def test_statistics_equal_those_of_all_pixels(tmp_path: Path):
    for number in range(5):
        write_noise(tmp_path / f'{number}.png', (20 + number, 30), mean=(50 + number, 100, 150), seed=number)
    data_format = formats_in(config(DEMO + 'mae_vit-micro_cifar10.py', tmp_path), ['train'])[0]
    images = [read_image(path).reshape(-1, 3).astype(float) for path in sorted(tmp_path.glob('*.png'))]
    sample = sample_images(data_format)
    assert len(sample.sizes) == sample.num_images == 5
    mean = np.mean([image.mean(axis=0) for image in images], axis=0)
    np.testing.assert_allclose(sample.mean, mean)
    variance = np.mean([np.square(image - mean).mean(axis=0) for image in images], axis=0)
    np.testing.assert_allclose(sample.std, np.sqrt(variance))
    assert sample_images(data_format, count=3).sizes.shape == (3, 2)
    assert np.array_equal(sample_images(data_format, count=3).sizes, sample_images(data_format, count=3).sizes)
    (tmp_path / '2.png').write_bytes(b'no image')
    assert len(sample_images(data_format).sizes) == 4


@pytest.mark.parametrize('file', [file for file in CONFIGS if Path(file).parent.name in ('pretrain', 'classification')
                                  and '_800e_' in file + '_800e_'][::4])
def test_photographs_fit_the_values_of_imagenet(file: str, tmp_path: Path):
    """Photographs as dark as those of Cityscapes, or as rich in contrast as those of CamVid."""
    cfg = load(file)
    for name, pixels in {'bright': IMAGENET, 'dark': dict(mean=(73, 83, 72), std=(48, 49, 48)),
                         'contrast': dict(mean=(105, 108, 110), std=(75, 77, 78))}.items():
        for split in ('train', 'val'):
            write_noise(tmp_path / name / split / 'cat' / '1.jpg', (375, 500), **pixels)
        own = Config(cfg.to_dict())
        if own.get('train_dataloader') is None:
            continue
        replace_data_root(own, str(tmp_path / name))
        adapt_classes(own)
        assert setting_warnings(own) == []


def test_objects_and_images_of_coco_fit_the_recipes(tmp_path: Path):
    write_coco(tmp_path, [8, 20, 50, 100, 200, 400], (480, 640), **IMAGENET)
    cfg = load('configs/detection/mask-rcnn_vitdet-b_100e_coco.py')
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file='annotations/instances_train.json',
                                        data_prefix=dict(img='train/'))
    assert setting_warnings(cfg) == []


@pytest.mark.parametrize(('sides', 'fits'), [([6, 12, 20, 43], True), ([150, 400, 500, 600], False),
                                             ([1, 1, 1, 2], False)])
def test_anchors_that_miss_boxes_are_found_and_mended(sides: list[int], fits: bool, tmp_path: Path):
    write_coco(tmp_path, sides, (640, 640), mean=(37, 37, 37), std=(40, 40, 40))
    cfg = config(DEMO + 'mask-rcnn_vit-micro_nuclei.py', tmp_path)
    cfg.train_dataloader.dataset.pipeline = [step for step in cfg.train_dataloader.dataset.pipeline
                                             if step.type != 'RandomCrop']
    warnings = setting_warnings(cfg)
    assert [('the anchors fit' in line) for line in warnings] == [True] * (not fits)
    if not fits:
        assert mended(cfg, warnings[0]) == []


def test_anchors_are_compared_with_boxes_after_resizing(tmp_path: Path):
    write_coco(tmp_path, [400, 500], (640, 640), mean=(37, 37, 37), std=(40, 40, 40))
    cfg = config(DEMO + 'faster-rcnn_vit-micro_nuclei.py', tmp_path)
    resize = dict(type='Resize', scale=(64, 64), keep_ratio=True)
    cfg.train_dataloader.dataset.pipeline.insert(1, resize)
    assert setting_warnings(cfg) == []


def test_objects_larger_than_the_crop_are_found_and_mended(tmp_path: Path):
    write_coco(tmp_path, [20, 250, 300, 330], (400, 400), mean=(37, 37, 37), std=(40, 40, 40))
    cfg = config(DEMO + 'mask-rcnn_vit-micro_nuclei.py', tmp_path)
    (warning,) = (line for line in setting_warnings(cfg) if 'larger than the crops' in line)
    assert '75% of the objects are larger than the crops of 192x192' in warning
    assert not [line for line in mended(cfg, warning) if 'larger than the crops' in line]


def test_crops_that_show_little_of_an_image_are_found_and_mended(tmp_path: Path):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    cfg = config(DEMO + 'upernet_vit-micro_camvid.py', tmp_path)
    pixels = dict(mean=(105, 108, 110), std=(60, 60, 60))
    for path in tmp_path.glob('images/training/*.jpg'):
        write_noise(path, (360, 480), **pixels)
    assert setting_warnings(cfg) == []
    for path in tmp_path.glob('images/training/*.jpg'):
        write_noise(path, (960, 1280), **pixels)
    (warning,) = setting_warnings(cfg)
    assert 'crops of 192x192 pixels show 3.0% of a median image' in warning
    assert mended(cfg, warning) == []


@pytest.mark.parametrize(('file', 'size', 'fault'), [
    ('mae_vit-micro_cifar10.py', (32, 32), ''), ('mae_vit-micro_cifar10.py', (360, 480), 'reduced by 10 to 32'),
    ('mae_vit-micro_nuclei.py', (1100, 1500), 'reduced by 7 to 64'),
    ('../pretrain/mae_vit-b_800e_in1k.py', (32, 32), 'enlarged by 9 to 224'),
    ('../pretrain/mae_vit-b_800e_in1k.py', (1500, 2000), ''),
    ('vit-micro_finetune_cifar10.py', (32, 32), ''), ('vit-micro_finetune_cifar10.py', (375, 500), 'reduced by 14'),
    ('../classification/vit-b_100e_in1k.py', (1500, 2000), '')])
def test_magnifications_that_lose_detail_are_found_and_mended(file: str, size: tuple[int, int], fault: str,
                                                              tmp_path: Path):
    for split in ('train', 'val'):
        write_noise(tmp_path / split / 'cat' / '1.png', size, (120, 116, 104), (60, 60, 60))
    root = tmp_path / 'train' if 'mae_' in file else tmp_path
    cfg = config(str(Path(DEMO, file)).replace('demo/../', ''), root)
    cfg.model.data_preprocessor.update(mean=[120.0, 116.0, 104.0], std=[60.0] * 3)
    warnings = setting_warnings(cfg)
    assert [fault in line for line in warnings] == [True] * bool(fault)
    if fault:
        assert mended(cfg, warnings[0]) == []


@pytest.mark.parametrize('make', [coco_config, label_map_config])
def test_data_that_cannot_be_read_give_no_warnings(make, tmp_path: Path):
    cfg = make(tmp_path / 'missing')
    with scope(cfg):
        assert setting_warnings(cfg) == []
