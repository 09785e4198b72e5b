"""`mae-backbone test`: classes of the checkpoint and of the data."""
import json
from pathlib import Path

import pytest
import timm
import torch
from helpers.class_folders import write_classes
from helpers.shrink import write_coco
from helpers.tta_models import detector
from safetensors.torch import save_file

from mae_backbone.cli.main import main
from mae_backbone.cli.test import check_used
from mae_backbone.utils.config_files import find_config

CLASSES = ('aerosol_can', 'air_conditioner')


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data, config and checkpoint of a tiny detector."""
    root = tmp_path_factory.mktemp('coco')
    write_coco(root)
    cfg, model = detector('faster-rcnn_vitdet-b_100e_coco', root)
    cfg.dump(root / 'config.py')
    torch.save({'meta': {'dataset_meta': {'classes': CLASSES}}, 'state_dict': model.state_dict()}, root / 'model.pth')
    return root, root / 'config.py', root / 'model.pth'


def edit_categories(root: Path, edit) -> None:
    for path in (root / 'annotations').glob('*.json'):
        content = json.loads(path.read_text())
        edit(content['categories'])
        path.write_text(json.dumps(content))


def evaluate(trained: tuple[Path, Path, Path], out: Path, capsys: pytest.CaptureFixture,
             *options: str) -> tuple[int, str, list[str]]:
    _, config, checkpoint = trained
    code = main(['test', config, checkpoint, *options, '--work-dir', out, '--cfg-options',
                 f'visualizer.name={out.name}', f'experiment_name={out.name}', 'test_evaluator.metric=bbox',
                 # Low ones: the detector is not trained.
                 'test_evaluator.iou_thrs=[0.05,0.1,0.15,0.2,0.25,0.3,0.5,0.6,0.7,0.75]',
                 'test_evaluator.classwise=True'])
    captured = capsys.readouterr()
    text = captured.out + captured.err
    return code, text, [line for line in text.splitlines() if line.startswith('coco/')]


def test_classes_in_another_order_give_the_same_metrics(trained, tmp_path: Path, capsys: pytest.CaptureFixture):
    code, text, expected = evaluate(trained, tmp_path / 'a', capsys)
    assert code == 0, text
    assert len({line.split(': ')[1] for line in expected if 'precision' in line}) == 2, 'classes have another precision'
    edit_categories(trained[0], list.reverse)
    code, text, metrics = evaluate(trained, tmp_path / 'b', capsys)
    edit_categories(trained[0], list.reverse)
    assert code == 0
    assert 'labels are matched by name' in text
    assert metrics == expected


def test_other_classes_are_refused(trained, tmp_path: Path, capsys: pytest.CaptureFixture):
    edit_categories(trained[0], lambda categories: categories[1].update(name='wolf'))
    code, text, _ = evaluate(trained, tmp_path / 'c', capsys)
    edit_categories(trained[0], lambda categories: categories[1].update(name=CLASSES[1]))
    assert code == 2
    assert '(missing: air_conditioner; unknown: wolf)' in text


def test_missing_checkpoint_is_refused_before_the_data_are_checked(trained, tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture):
    assert main(['test', trained[1], tmp_path / 'missing.pth', '--work-dir', tmp_path / 'work']) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f'error: checkpoint {tmp_path}/missing.pth does not exist')
    assert captured.out == ''
    assert not (tmp_path / 'work').exists()


def test_augmentation_at_test_time_maps_classes_too(trained, tmp_path: Path, capsys: pytest.CaptureFixture):
    code, text, expected = evaluate(trained, tmp_path / 'tta_a', capsys, '--tta')
    assert code == 0, text
    assert len({line.split(': ')[1] for line in expected if 'precision' in line}) == 2, 'classes have another precision'
    edit_categories(trained[0], list.reverse)
    code, text, metrics = evaluate(trained, tmp_path / 'tta_b', capsys, '--tta')
    edit_categories(trained[0], list.reverse)
    assert code == 0, text
    assert 'labels are matched by name' in text
    assert metrics == expected


def test_neighbors_of_a_model_of_timm_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture):
    """The folder is the checkpoint; a warning says that the pixels of the config are not those of the weights."""
    monkeypatch.chdir(tmp_path)
    size = dict(embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8)
    Path('hub').mkdir()
    save_file(timm.create_model('vit_tiny_patch16_224', num_classes=0, **size).state_dict(), 'hub/model.safetensors')
    Path('hub/config.json').write_text(json.dumps(dict(
        architecture='vit_tiny_patch16_224', model_args=size, pretrained_cfg=dict(mean=[.5] * 3, std=[.5] * 3))))
    write_classes(tmp_path / 'data')
    Path('knn.py').write_text(f"""
_base_ = ['{find_config('vit-micro_knn_cifar10')}']
model = dict(backbone=dict(_delete_=True, type='mae_backbone.TimmViT', name='hub'), pool='class')
""")
    workers = [f'{loader}.{key}' for loader in ('test_dataloader', 'test_cfg.bank')
               for key in ('num_workers=0', 'persistent_workers=False')]
    code = main(['test', 'knn.py', 'hub', '--data-root', 'data', '--work-dir', 'out', '--cfg-options', *workers,
                 'test_cfg.k=3'])
    text = ''.join(capsys.readouterr())
    assert code == 0, text
    assert 'the data_preprocessor has mean=[125.3, 123.0, 113.9]' in text
    assert 'trained with mean=[127.5, 127.5, 127.5]' in text
    assert 'knn/top1' in text
    assert main(['test', 'knn.py', 'mae_vit_bse', '--data-root', 'data']) == 2
    assert 'did you mean mae_vit_base' in capsys.readouterr().err


@pytest.mark.parametrize(('option', 'advice'), [
    ('val_evaluator.classwise=True', 'set test_evaluator.classwise'), ('val_cfg.k=3', 'set test_cfg.k'),
    ('val_dataloader.batch_size=2', 'set test_dataloader.batch_size'), ('param_scheduler.0.end=3', 'leave it out')])
def test_settings_that_a_test_does_not_read_are_refused(option: str, advice: str, capsys: pytest.CaptureFixture):
    assert main(['test', 'mask-rcnn_vit-micro_nuclei', 'random', '--cfg-options', option]) == 2
    assert advice in capsys.readouterr().err
    check_used(['val_dtype=bfloat16', 'train_dataloader.dataset.ann_file=a.json', 'test_evaluator.metric=bbox'])
