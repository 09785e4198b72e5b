"""`mae-backbone test`: classes of the checkpoint and of the data."""
import json
from pathlib import Path

import pytest
import torch
from helpers.shrink import write_coco
from helpers.tta_models import detector

from mae_backbone.cli.main import main

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
