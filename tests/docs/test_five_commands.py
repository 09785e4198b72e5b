"""The five commands of the README, run one after another on a few generated images."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.commands import forget_instances
from helpers.doc_blocks import ROOT, commands

from mae_backbone.cli.main import main

pytestmark = pytest.mark.slow  # a pretraining and a training through the command line, 20 s
SHORT = {
    'pretrain': ['--iters', '2', '--batch-size', '2', '--cfg-options', 'train_dataloader.num_workers=0',
                 'train_dataloader.persistent_workers=False', 'train_dataloader.dataset.scale=[0.5,1.0]'],
    'train': ['--iters', '2', '--batch-size', '1', '--cfg-options', 'train_dataloader.num_workers=0',
              'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
              'val_dataloader.persistent_workers=False'],
    # MMEngine wants another name for each visualizer of a process.
    'test': ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
             'visualizer.name=test'],
}
LAST = {'iter_3500.pth': 'iter_2.pth', 'iter_600.pth': 'iter_2.pth'}  # with so few iterations


def write_nuclei(root: Path, split: str) -> None:
    """Two dark images with bright squares, and their annotations."""
    (root / split).mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 3):
        image = np.full((200, 200, 3), 30, np.uint8)
        for x, y in ((20, 30), (90, 100), (150, 60)):
            image[y:y + 24, x:x + 24] = 200
            annotations.append(dict(
                id=len(annotations) + 1, image_id=number, category_id=1, bbox=[x, y, 24, 24], area=576, iscrowd=0,
                segmentation=[[x, y, x + 24, y, x + 24, y + 24, x, y + 24]]))
        cv2.imwrite(str(root / split / f'{number}.png'), image)
        images.append(dict(id=number, file_name=f'{number}.png', width=200, height=200))
    path = root / 'annotations' / f'instances_{split}.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(images=images, annotations=annotations,
                                    categories=[dict(id=1, name='nucleus')])))


def test_they_lead_from_images_to_predictions(tmp_path, monkeypatch, capsys):
    forget_instances()
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'val'):
        write_nuclei(tmp_path / 'nuclei', split)
    run = commands(ROOT / 'README.md')[1:]
    assert [command.name for command in run] == ['pretrain', 'visualize', 'train', 'test', 'predict']
    for command in run:
        words = [word.replace(*names) for word in command.options
                 for names in [next((pair for pair in LAST.items() if word.endswith(pair[0])), ('', ''))]]
        assert main([command.name, *words, *SHORT.get(command.name, [])]) == 0, capsys.readouterr()
    assert (tmp_path / 'reconstructions.png').is_file()
    assert len(json.loads((tmp_path / 'predictions/images.json').read_text())['images']) == 2
    assert 'next: ' in capsys.readouterr().out
