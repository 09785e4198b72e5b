"""Report: complete, self-contained, readable on a phone, on a wide screen, in the dark and on paper."""
import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.encoder_files import CONFIG, save
from helpers.html_reader import Reader

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.charts import curves
from mae_backbone.transfer.encoders import Encoder, find_encoders
from mae_backbone.transfer.environment import git_commit
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.planning import plan
from mae_backbone.transfer.report import _circumstances, write_report
from mae_backbone.transfer.results import CellResult, make_table
from mae_backbone.transfer.suite import load_suite
from mae_backbone.utils.image_grid import save_picture

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
NASTY = '<img src=x onerror=alert(1)>'
SUITE = f'''
title = {NASTY!r}
data = dict(one='one')
seeds = [0, 1, 2]
labels = [0.1, 1.0]
tasks = {{'knn': dict(probe='knn', data=['one']), 'a long name of a task': dict(probe='linear', data=['one'])}}
reported = [dict(task='knn', data='one', metric='top-1', arch='tiny', value=1.0, name='absent', source='x')]
'''


def where(number: int) -> dict:
    return {'commit': f'commit{number}', 'versions': {'torch': '2'}, 'hardware': {'processor': f'machine {number}'}}


@pytest.fixture(scope='module')
def experiment(tmp_path_factory) -> Experiment:
    """All cells done but one, three checkpoints of a run, and names that would be HTML."""
    tmp_path = tmp_path_factory.mktemp('experiment')
    folder = tmp_path / 'data' / 'one'
    folder.mkdir(parents=True)
    for index, number in enumerate((100, 200, 300)):
        save(tmp_path / 'run' / f'iter_{number}.pth', config=CONFIG + f'\nnumber = {index}')
    (tmp_path / 'suite.py').write_text(SUITE)
    encoders = find_encoders([str(tmp_path / 'run')], ['random'])
    encoders[0] = encoders[0]._replace(name='iter_100 <b>')
    made = Experiment(load_suite(str(tmp_path / 'suite.py')), tuple(encoders), tmp_path / 'data',
                     tmp_path / 'out')
    plan(made)
    chance = np.random.default_rng(0)
    for number, cell in enumerate(made.cells()[:-1]):
        value = {'values': {'top-1': 40 + 10 * cell.labels + float(chance.normal())}, 'seconds': 1.5}
        if number:  # the first one is of an earlier version
            value['environment'] = where(number % 2)
        (made.work_dir / cell.folder / experiment_dir.RESULT).write_text(json.dumps(value))
    return made


@pytest.fixture(scope='module')
def page(experiment) -> Path:
    failed = {experiment.work_dir / experiment.cells()[-1].folder: f'the reason {NASTY}\nits last line\n'}
    drawing = experiment.work_dir / 'cells' / 'pictures'
    experiment_dir.write_spec(drawing, {'title': f'Pictures {NASTY}'}, {})
    save_picture(str(drawing / 'a.png'), np.full((300, 1400, 3), 90, np.uint8))
    (drawing / experiment_dir.RESULT).write_text(json.dumps({'pictures': {'a.png': NASTY}, 'faults': [NASTY]}))
    return write_report(experiment, failed=failed, figures=[drawing], seconds=61.0,
                        command='transfer.py --tasks knn', only={'tasks': ['knn'], 'seeds': None})


def test_the_page_is_complete_and_loads_nothing(page):
    text = page.read_text(encoding='utf-8')
    read = Reader(text)
    sources = [value for value in read.values if value and value.startswith('data:')]
    assert len(sources) == read.tags.count('img') == 2 + 2 + 1  # labels, pretraining, picture
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert read.tags.count('script') == 0
    said = ''.join(read.text)
    for words in ('47 of 48 cells', 'the reason', 'its last line', 'vs random', 'iter_100 <b>', 'Not drawn', NASTY,
                  'Pretraining, iterations', '--tasks knn', '23 cells: commit commit1. processor: machine 1',
                  '1 cells have no recorded environment'):
        assert words in said
    assert 'onerror' not in ''.join(re.findall(r'<[^>]*>', text)).replace(f'alt="{NASTY}"', '').replace(
        'alt="&lt;img src=x onerror=alert(1)&gt;"', '')


def test_the_record_has_every_cell_and_its_environment(page, experiment):
    record = json.loads((experiment.work_dir / 'results.json').read_text(encoding='utf-8'))
    assert len(record['cells']) == 47
    assert record['cells'][0] | {'values': 0} == dict(task='knn', data='one', labels=0.1, seed=0, seconds=1.5,
                                                      model='iter_100 <b>', values=0, environment=None, notes=[],
                                                      minutes=None, curves={}, clock='cpu_minutes')
    assert [cell['environment'] for cell in record['cells'][:4]] == [None, 0, 1, 0]
    assert record['environments'] == [where(1), where(0)]
    assert (record['command'], record['only']) == ('transfer.py --tasks knn', {'tasks': ['knn'], 'seeds': None})
    assert list(record['failed'].values()) == [f'the reason {NASTY}\nits last line\n']
    assert record['config'] == SUITE
    assert record['reported'] == [], 'of another architecture'
    row = next(row for row in record['table'] if row['model'] == 'iter_300' and row['labels'] == 1.0)
    values = [cell['values']['top-1'] for cell in record['cells'] if (cell['task'], cell['model'], cell['labels']) == (
        row['task'], 'iter_300', 1.0)]
    assert row['summary']['mean'] == pytest.approx(np.mean(values))
    assert row['differences']['random']['seeds'] == 3


def test_the_markdown_table_has_a_line_for_each_row(page, experiment):
    lines = (experiment.work_dir / 'table.md').read_text(encoding='utf-8').splitlines()
    table = [line for line in lines if line.startswith('| ')]
    assert len(table) == 2 + 2 * 2 * 4
    assert len({line.replace(r'\|', '').count('|') for line in table}) == 1
    assert lines[-1].startswith('- failed: cells/a long name of a task/one/labels-1/seed-2/random: the reason')


def drawn_in(part: str) -> list[str]:
    """The SVGs in a part of the page."""
    return [base64.b64decode(found).decode() for found in re.findall('svg\\+xml;base64,([^"]*)', part)]


def words_in(part: str) -> list[set[str]]:
    """Texts in each SVG of a part of the page."""
    return [set(re.findall('<!-- (.*?) -->', drawn)) for drawn in drawn_in(part)]


def test_chart_is_not_wider_than_a_phone(page):
    drawn = drawn_in(page.read_text(encoding='utf-8'))
    assert len(drawn) == 4
    assert all(float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) * 96 / 72 <= 390 for svg in drawn)


def test_each_run_is_a_line_and_each_axis_has_one_unit():
    given = ('a', 'iter', 100), ('a', 'iter', 200), ('b', 'iter', 300), ('c', 'epoch', 1), ('c', 'epoch', 2)
    encoders = [Encoder(f'{run}/{unit}_{step}', Path(run, f'{unit}_{step}.pth'), False, step, unit)
                for run, unit, step in given]
    encoders.append(Encoder('random', None, True))
    rows = make_table([CellResult('knn', 'set', labels, 0, encoder.name, {'top-1': 50.0}, 1.0) for labels in (0.1, 1.0)
                  for encoder in encoders], ['random'])
    parts = list(curves(rows, encoders))
    assert parts[::2] == ['<h2>Labels</h2>', '<h2>Pretraining, iterations</h2>', '<h2>Pretraining, epochs</h2>']
    [labels], [iterations], [epochs] = map(words_in, parts[1::2])
    assert labels >= {'knn, set', 'a/iter_200', 'b/iter_300', 'c/epoch_2', 'random'}
    assert not labels & {'a/iter_100', 'c/epoch_1'}
    assert iterations >= {'iterations', 'a', 'b', 'random'}
    assert not iterations & {'c', 'epochs'}
    assert epochs >= {'epochs', 'c', 'random'}
    assert not epochs & {'a', 'b', 'iterations'}


def test_curves_without_points_are_drawn():
    encoders = [Encoder(f'iter_{step}', Path(f'iter_{step}.pth'), False, step, 'iter') for step in (1, 2)]
    rows = make_table([CellResult('knn', 'set', 1.0, 0, 'another', {'top-1': 50.0}, 1.0)], [])
    assert len(list(curves(rows, encoders))) == 2


def test_the_commit_of_a_checkout_is_recorded(tmp_path):
    assert git_commit(tmp_path) is None
    subprocess.run(['git', 'init', '-q', tmp_path], check=True)
    who = ['-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'commit.gpgsign=false']
    (tmp_path / 'file').write_text('1')
    subprocess.run(['git', '-C', tmp_path, 'add', '.'], check=True)
    subprocess.run(['git', '-C', tmp_path, *who, 'commit', '-qm', 'one'], check=True)
    clean = git_commit(tmp_path)
    assert re.fullmatch('[0-9a-f]{40}', clean)
    (tmp_path / 'file').write_text('2')
    assert git_commit(tmp_path) == clean + '+'
    (tmp_path / 'site-packages').mkdir()
    assert git_commit(tmp_path / 'site-packages') is None, 'an installed package in a checkout of something else'


@pytest.mark.skipif(BROWSER is None, reason='no chromium is installed (Debian: apt-get install chromium)')
@pytest.mark.slow
@pytest.mark.parametrize('width', [1280, 390])
def test_a_browser_shows_the_page_within_its_window(page, tmp_path, width: int):
    """Nothing reaches the right edge, where what is too wide would be cut; the picture of 1400 pixels is shown."""
    shot = tmp_path / 'shot.png'
    subprocess.run([BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
                    f'--window-size={width},7000', f'--user-data-dir={tmp_path / "user"}', f'--screenshot={shot}',
                    page.as_uri()], capture_output=True, timeout=120, check=True)
    pixels = cv2.imread(str(shot))
    assert pixels.shape == (7000, width, 3)
    assert (pixels[:, -8:] == 255).all()
    assert (pixels < 64).any(), 'no text'
    lines = (pixels == 90).all(axis=2).sum(axis=1)
    text = min(width - 32, 960)
    assert lines.max() == text, 'the picture is as wide as the text'
    assert (lines == text).sum() == pytest.approx(text * 300 / 1400, abs=3)


def test_minutes_of_a_gpu_and_of_a_cpu_are_named():
    cells = [CellResult('tune', 'one', 1.0, seed, 'mae', {'top-1': 1.0}, 1.0, curves={'top-1': [[1, 1.0, 1.0]]},
                        clock=clock) for seed, clock in enumerate(('cpu_minutes', 'minutes'))]
    about = {'finished': 'today', 'seconds': 60.0, 'command': 'mae-backbone transfer'}
    assert sum('their minutes cannot be compared' in line for line in _circumstances(cells, about)) == 1
    assert not any('cannot be compared' in line for line in _circumstances(cells[:1], about))
