"""The commands from boxes in Pascal VOC's layout to predictions, run one after another on a few generated images."""
import json
from pathlib import Path

import pytest
from helpers.commands import run_command
from helpers.doc_blocks import ROOT, commands
from helpers.layouts import Shape, scene, voc_xml

from mae_backbone.planning.rules import lengths

WORKERS = {split: [f'{split}_dataloader.{key}' for key in ('num_workers=0', 'persistent_workers=False')]
           for split in ('train', 'val', 'test')}
SHORT = {
    'plan': ['--estimate'],
    'pretrain': ['--batch-size', '2', '--cfg-options', *WORKERS['train']],
    'train': ['--batch-size', '1', '--cfg-options', *WORKERS['train'], *WORKERS['val']],
    'test': ['--cfg-options', *WORKERS['test']],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `my_voc`, where planned trainings have 3 iterations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(lengths, '_MIN_ITERATIONS', 3)
    for i in range(6):
        # An image without objects, a space, a suffix in upper case, a class of which few images show an object.
        shapes = [] if i == 4 else [Shape('red', (20 + i, 30, 24, 20)), Shape('blue', (70, 60 + i, 9, 8))][:1 + i % 2]
        scene(tmp_path / f'my_voc/JPEGImages/a {i}.{"JPG" if i % 2 else "png"}', (128, 112), shapes)
        path = tmp_path / f'my_voc/Annotations/a {i}.xml'
        path.parent.mkdir(exist_ok=True)
        path.write_text(voc_xml((128, 112), shapes))
    return tmp_path


def steps() -> dict[str, list[str]]:
    """The commands of the page that work on `my_voc`, with a budget of a moment."""
    found = {}
    for command in commands(ROOT / 'docs/your_data.md'):
        if any('my_voc' in word for word in command.options):
            words = ['1e-9' if before == '--hours' else word
                     for before, word in zip(['', *command.options], command.options, strict=False)]
            assert command.name not in found
            found[command.name] = words
    return found


@pytest.mark.slow  # a pretraining, a training and a test through the command line, 15 s
def test_voc_boxes_lead_to_predictions(folder: Path) -> None:
    written = steps()
    assert list(written) == ['auto', 'plan', 'pretrain', 'train', 'test', 'predict', 'import']
    printed = {}
    for name, words in written.items():
        if name == 'auto':  # does the same, see `tests/cli/test_auto.py`
            continue
        words = [str(path) for word in words for path in (sorted(Path().glob(word)) if '*' in word else [word])]
        printed[name] = run_command(name, *words, *SHORT.get(name, []))
    assert 'layout: Pascal VOC in' in printed['plan']
    assert 'next: mae-backbone pretrain my_voc_pretrain.py' in printed['plan']
    assert 'split: lists of the images in work_dirs/my_voc/split.json' in printed['train']
    assert 'test: 1 images' in printed['test'] or 'test: 2 images' in printed['test']
    assert (folder / 'my_voc.html').is_file()
    assert len(json.loads((folder / 'my_predictions/images.json').read_text())['images']) == 6
    assert len(json.loads((folder / 'my_coco/annotations/instances_train.json').read_text())['images']) >= 4


def test_printed_commands_can_be_pasted_for_a_folder_with_a_space(folder: Path) -> None:
    (folder / 'my_voc').rename(folder / 'my voc')
    printed = run_command('plan', 'my voc', '--estimate')
    assert "next: mae-backbone pretrain 'my voc_pretrain.py'" in printed
    assert "then: mae-backbone test 'my voc.py' 'work_dirs/my voc'/best_*.pth" in printed
    assert "Run     mae-backbone train 'my voc.py'" in Path('my voc.py').read_text()
