"""Benchmark of training steps: any config against any other, on the same batch."""
import json
import statistics
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mae_backbone.benchmark import train
from mae_backbone.benchmark.batches import Shape, synthetic_batch
from mae_backbone.benchmark.train import build, find, shape_of
from mae_backbone.cli.main import main

ROOT = Path(__file__).parents[2]
SHAPE = Shape(2, (64, 96), 3)
TINY = dict(arch=dict(width=16, depth=1, heads=2), image_size=64)


def options(**given) -> Namespace:
    return Namespace(**dict(config='some.py', batch=None, image_size=None, num_classes=None) | given)


def config(**parts) -> Config:
    return Config(parts)


def read(path: str | Path) -> Config:
    return Config.fromfile(path, import_custom_modules=False)


# ---- the batch

def test_shape_comes_from_the_first_config_with_fewer_classes():
    ours = read(ROOT / 'configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py')
    theirs = read(find('mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py'))
    assert shape_of(options(), [ours, theirs]) == Shape(2, (512, 512), 150)
    detector = read(ROOT / 'configs/detection/mask-rcnn_vitdet-b_100e_coco.py')
    assert shape_of(options(), [detector, ours])[1:] == ((1024, 1024), 80)
    pretraining = read(ROOT / 'configs/pretrain/mae_vit-b_800e_in1k.py')
    assert shape_of(options(batch=4), [pretraining, pretraining])[:2] == (4, (224, 224))


def test_options_override_the_config():
    shape = shape_of(options(batch=3, image_size=[32, 48], num_classes=7), [config(model=dict(num_classes=5))] * 2)
    assert shape == Shape(3, (32, 48), 7)


def test_configs_without_a_training_are_refused():
    path = 'configs/transfer/quick.py'
    with pytest.raises(ValueError, match=r'quick\.py has no model or no optimizer'):
        train.measure(options(config=path, against=path, device='cpu', batch=1, image_size=[32]))


def test_unknown_sizes_are_asked_for():
    with pytest.raises(ValueError, match=r'some\.py does not state the size .* give --image-size and --batch'):
        shape_of(options(), [config(model=dict())] * 2)


def test_configs_of_installed_packages_are_found():
    assert Path(find('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')).is_file()
    for name in ('mmseg::nothing.py', 'nothing.py', 'no package::nothing.py'):
        with pytest.raises(FileNotFoundError, match=f'config {name} does not exist'):
            find(name)


@pytest.mark.parametrize('model', [
    dict(type='mae_backbone.MAEPretrainer', encoder=dict(TINY, in_channels=4), decoder_width=16, decoder_depth=1,
         decoder_heads=2, data_preprocessor=dict(type='mae_backbone.PixelPreprocessor')),
    dict(type='mae_backbone.ViTClassifier', backbone=TINY, num_classes=3,
         data_preprocessor=dict(type='mae_backbone.PixelPreprocessor'))])
def test_batch_of_pretraining_and_classification_gives_a_loss(model: dict):
    model = MODELS.build(model)
    data = model.data_preprocessor(synthetic_batch(model, SHAPE), True)
    assert data['inputs'].shape[0::2] == (2, 64)
    assert torch.isfinite(model(**data, mode='loss')['loss'])


def test_batch_of_detection_has_matching_boxes_labels_and_masks():
    init_default_scope('mmdet')
    from mmdet.models import BaseDetector, DetDataPreprocessor

    class Detector(BaseDetector):
        _forward = extract_feat = loss = predict = None
    data = synthetic_batch(Detector(), SHAPE)
    data = DetDataPreprocessor(pad_mask=True, pad_size_divisor=32)(data, True)
    assert data['inputs'].shape == (2, 3, 64, 96)
    for sample in data['data_samples']:
        instances = sample.gt_instances
        assert instances.labels.max() < 3
        boxes = instances.bboxes.long().tolist()
        for (left, top, right, bottom), mask in zip(boxes, instances.masks.masks, strict=True):
            assert 0 <= left < right <= 96
            assert 0 <= top < bottom <= 64
            assert mask.sum() == mask[top:bottom, left:right].sum() == (bottom - top) * (right - left)


def test_models_of_unknown_kind_are_refused():
    with pytest.raises(ValueError, match='Linear is not one of MAEPretrainer, ViTClassifier, BaseSegmentor'):
        synthetic_batch(torch.nn.Linear(1, 1), SHAPE)


# ---- the step

def write_config(path: Path, width: int) -> Path:
    """A small segmenter."""
    path.write_text(f'''
default_scope = 'mmseg'
custom_imports = dict(imports=['mae_backbone'])
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3, size=(32, 48), seg_pad_val=255),
    backbone=dict(type='mae_backbone.ViTBackbone', arch=dict(width={width}, depth=1, heads=2), image_size=32),
    decode_head=dict(type='FCNHead', in_channels={width}, channels=8, num_convs=1, concat_input=False, num_classes=4,
                     norm_cfg=dict(type='SyncBN'), align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), accumulative_counts=4)
train_dataloader = dict(batch_size=2)
''', encoding='utf-8')
    return path


def test_step_trains_the_model(tmp_path: Path):
    step = build(str(write_config(tmp_path / 'some.py', 16)), Shape(2, (32, 48), 4), torch.device('cpu'))
    results = [step() for _ in range(8)]
    assert set(results[0][0]) == {'forward', 'backward', 'optimizer'}
    assert results[-1][1]['loss'] < results[0][1]['loss']  # on the same batch, though 4 steps would be accumulated


class InProcess:
    """Stands in for `Worker`, whose process would import everything again."""

    def __init__(self, prepare: Callable, *args: object, **_: object) -> None:
        self.call = prepare(*args)

    def memory(self) -> int:
        return 2**20

    def __enter__(self) -> 'InProcess':
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_command_prints_a_table_and_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture):
    monkeypatch.setattr(train, 'Worker', InProcess)
    small, large = write_config(tmp_path / 'small.py', 16), write_config(tmp_path / 'large.py', 256)
    threads = torch.get_num_threads()
    try:
        assert main(['benchmark', 'train', small, '--against', large, '--rounds', '2', '--threads', '1', '--device',
                     'cpu', '--json', tmp_path / 'train.json']) == 0
    finally:
        torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert all(text in output for text in ('images/s', 'peak memory', 'small.py', 'large.py', '2 of 32x48'))
    result = json.loads((tmp_path / 'train.json').read_text())
    assert result['ratio'] == {
        'throughput': statistics.median(result['ratios']),
        'memory': result['ours']['peak_memory'] / result['baseline']['peak_memory']}
    assert result['ours']['parameters'] < result['baseline']['parameters'] / 50
