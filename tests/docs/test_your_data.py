"""The commands from boxes in Pascal VOC's layout to predictions, run one after another on a few generated images."""
import json
from pathlib import Path

import pytest
from helpers.commands import run_command
from helpers.doc_blocks import ROOT, commands
from helpers.layouts import Shape, scene, voc_xml

WORKERS = {split: [f'{split}_dataloader.{key}' for key in ('num_workers=0', 'persistent_workers=False')]
           for split in ('train', 'val', 'test')}
SHORT = {
    'check': ['--workers', '1'],
    'pretrain': ['--iters', '2', '--batch-size', '2', '--cfg-options', *WORKERS['train'],
                 'train_dataloader.dataset.scale=[0.5,1.0]'],
    'train': ['--iters', '2', '--batch-size', '1', '--cfg-options', *WORKERS['train'], *WORKERS['val']],
    'test': ['--cfg-options', *WORKERS['test']],
}
LAST = {'iter_3500.pth': 'iter_2.pth', 'iter_600.pth': 'iter_2.pth'}  # with so few iterations


@pytest.mark.slow  # a pretraining, a training and a test through the command line, 15 s
def test_voc_boxes_lead_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    for i in range(5):
        shapes = [Shape('red', (20 + i, 30, 24, 20)), Shape('blue', (70, 60 + i, 30, 24))]
        scene(tmp_path / f'my_voc/JPEGImages/a {i}.jpg', (128, 112), shapes)
        path = tmp_path / f'my_voc/Annotations/a {i}.xml'
        path.parent.mkdir(exist_ok=True)
        path.write_text(voc_xml((128, 112), shapes))
    steps = [command for command in commands(ROOT / 'docs/your_data.md')
             if any(word.startswith('my_voc') for word in command.options)]
    assert [step.name for step in steps] == ['check', 'pretrain', 'train', 'test', 'predict', 'import']
    printed = {}
    for step in steps:
        words = [word.replace(*next((pair for pair in LAST.items() if word.endswith(pair[0])), ('', '')))
                 for word in step.options]
        printed[step.name] = run_command(step.name, *words, *SHORT.get(step.name, []))
    assert 'layout: Pascal VOC in my_voc: 5 images' in printed['check']
    assert 'split: lists of the images in work_dirs/my_detector/split.json' in printed['train']
    assert 'test: 1 images, 2 boxes of 2 classes' in printed['test']
    assert (tmp_path / 'my_samples.png').is_file()
    assert len(json.loads((tmp_path / 'my_predictions/images.json').read_text())['images']) == 5
    assert len(json.loads((tmp_path / 'my_coco/annotations/instances_train.json').read_text())['images']) == 4
