"""Every line of Python in docs/python.md, in the README and in the notebook runs."""
import ast
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.doc_blocks import ROOT, blocks
from helpers.model_files import CLASSES, write_checkpoint
from helpers.small_sets import write_image

import mae_backbone
from mae_backbone.cli import python_api
from mae_backbone.quickstart.scene_files import write_scenes

SHORT = {'default_hooks.checkpoint.interval': 2, 'train_dataloader.num_workers': 0,
         'train_dataloader.persistent_workers': False}
FILES = {'detection': 'cells/best.pth', 'segmentation': 'streets/best.pth', 'classification': 'animals/best.pth',
         'pretraining': 'mae/iter_2.pth'}
NOTEBOOK = ROOT / 'docs/notebooks/first_steps.ipynb'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, images and class folders that the pages name."""
    root = tmp_path_factory.mktemp('page')
    for task, name in FILES.items():
        path = root / 'work_dirs' / name
        path.parent.mkdir(parents=True)
        write_checkpoint(task, root / 'made' / task).rename(path)
    write_scenes(root / 'scenes', unlabeled=12, train=16, val=16)
    (root / 'scenes/classes').rename(root / 'animals')
    (root / 'scenes').rename(root / 'cells_coco')
    for path in ('image.png', 'images/a.png', 'images/b.png'):
        write_image(root / path, (72, 48))
    return root


@pytest.fixture
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings of a page take two steps."""
    for name in ('pretrain', 'train'):
        command: Callable = getattr(python_api, name)
        monkeypatch.setattr(mae_backbone, name, partial(command, iters=2, batch_size=4, cfg_options=SHORT),
                            raising=False)


@pytest.mark.slow  # two trainings, and a model of each task
@pytest.mark.parametrize('page', ['README.md', 'docs/python.md'])
@pytest.mark.usefixtures('short_trainings')
def test_blocks_of_the_page_run(page: str, folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    code = [block for block in blocks(ROOT / page) if block.language == 'python']
    assert code
    names: dict = {}
    for block in code:
        exec(compile('\n' * block.line + block.text, page, 'exec'), names)
    assert names['model'].classes == CLASSES['detection']
    assert len(names['result'].to_coco()) > 5


@pytest.mark.slow  # two trainings of two steps
def test_cells_of_the_notebook_run_and_show_figures(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [''.join(cell['source']) for cell in json.loads(NOTEBOOK.read_text())['cells']
             if cell['cell_type'] == 'code']
    assert len(cells) > 8
    names: dict = {}
    figures = [value for cell in cells if hasattr(value := run_cell(cell, names), '_repr_html_')]
    assert len(figures) == 2
    assert all('<img src="data:image/png' in figure._repr_html_() for figure in figures)
    assert np.isfinite(names['run'].results['train_loss'])


def run_cell(text: str, names: dict) -> object:
    """Runs a cell; returns the value of its last expression, as a notebook shows it."""
    tree = ast.parse(text)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, 'exec'), names)
    return None if last is None else eval(compile(last, NOTEBOOK.name, 'eval'), names)


def test_the_notebook_is_stored_without_outputs():
    for cell in json.loads(NOTEBOOK.read_text())['cells']:
        assert not cell.get('outputs')
        assert cell.get('execution_count') is None
