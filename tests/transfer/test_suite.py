"""Suites: what is in them is read, what is not is said."""
import ast
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mae_backbone.core.vit import ARCHS
from mae_backbone.transfer.suite import PROBES, Cell, cells_of, load_suite

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
SUITES = sorted(file.stem for file in (CONFIGS / 'transfer').glob('*.py'))
SMALL = '''
title = 'Small'
data = dict(one='one', two='folder')
labels = [0.1, 1.0]
seeds = [0, 1]
tasks = dict(
    knn=dict(probe='knn', data=['one', 'two'], seeds=[5]),
    tune=dict(config='demo/vit-micro_finetune_cifar10.py', data=['one']))
'''
REPORTED = "reported = [dict(task='knn', data='one', metric='top-1', arch='tiny', value=1.5, name='a', source='b')]"


def suite(folder: Path, text: str = SMALL):
    (folder / 'mine.py').write_text(text)
    return load_suite(str(folder / 'mine.py'), CONFIGS)


def test_a_suite_is_the_product_of_what_it_lists(tmp_path):
    found = suite(tmp_path)
    cells = list(cells_of(found, ['mae', 'random']))
    assert len(cells) == len(set(cells)) == (2 * 2 * 1 + 1 * 2 * 2) * 2
    assert len({cell.folder for cell in cells}) == len(cells)
    assert cells[0] == Cell('knn', 'one', 0.1, 5, 'mae')
    assert found.text == SMALL


def test_folders_of_cells_lie_below_that_of_the_benchmark():
    assert '..' not in Cell('knn', 'one', 0.1, 0, 'run/../../epoch_1').folder.parts


@pytest.mark.parametrize(('old', 'new', 'says'), [
    ("seeds = [0, 1]", "sedes = [0, 1]", "has sedes, which nothing reads"),
    ("probe='knn'", "prob='knn'", "task 'knn' has prob, which nothing reads"),
    ("probe='knn'", "probe='knm'", "wanted one of knn, linear"),
    ("probe='knn'", "probe='knn', config='a.py'", "set one of them"),
    ("data=['one']", "data=['three']", "wants the data three: the suite has one, two"),
    ("[0.1, 1.0]", "[0.0]", "wanted shares in"),
    ("title = 'Small'", "", "misses title"),
    ("labels = [0.1, 1.0]", "labels = 0.1", "task 'knn': labels is 0.1: wanted a list, such as [0.1]"),
    ("labels = [0.1, 1.0]", "labels = ['1 %']", "has labels=['1 %']: wanted shares"),
    ("seeds = [0, 1]", "seeds = 0", "task 'tune': seeds is 0: wanted a list, such as [0]"),
    ("seeds = [0, 1]", "seeds = [0.5]", "has seeds=[0.5]: wanted whole numbers"),
    ("data=['one']", "data='one'", "task 'tune': data is 'one': wanted a list, such as ['one']"),
    ("data=['one']", "data=[['one']]", "wants the data ['one']: the suite has one, two"),
    ("data = dict(one='one', two='folder')", "data = 'cifar10'", "data is 'cifar10': wanted dict("),
    ("knn=dict(probe='knn', data=['one', 'two'], seeds=[5])", "knn='knn'", "task 'knn' is 'knn': wanted dict("),
    ("title = 'Small'", "title = 'Small'\nreported = ['a']", "a number of `reported` is 'a': wanted a dict"),
    ("title = 'Small'", f"title = 'Small'\n{REPORTED.replace('tiny', 'tinny')}", "architecture 'tinny': wanted one of"),
    ("title = 'Small'", f"title = 'Small'\n{REPORTED.replace('1.5', 'None')}", "is None: wanted percent"),
    ("title = 'Small'", "title = 'Small'\nreported = [dict(task='knn')]", "wanted arch, data, metric, name"),
])
def test_mistakes_are_named(tmp_path, old: str, new: str, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        suite(tmp_path, SMALL.replace(old, new))


def test_a_list_of_tasks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=re.escape("tasks is ['knn']: wanted dict(NAME=dict(...))")):
        suite(tmp_path, "title = 'Small'\ndata = dict(one='one')\ntasks = ['knn']")


def test_a_published_number_is_kept_as_it_is(tmp_path):
    [number] = suite(tmp_path, SMALL + REPORTED).reported
    assert (number['arch'], number['value']) == ('tiny', 1.5)


def test_an_unknown_suite_lists_those_there_are():
    with pytest.raises(ValueError, match=f'pass one of {", ".join(SUITES)}'):
        load_suite('no_such_suite', CONFIGS)


def test_a_part_of_a_suite_has_what_was_chosen(tmp_path):
    found = suite(tmp_path)
    part = found.only(tasks=['knn'], labels=[1.0])
    assert [(task.name, task.data, task.labels) for task in part.tasks] == [('knn', ('one', 'two'), (1.0,))]
    assert list(found.only(tasks=['tune']).data) == ['one']
    assert [(task.name, task.seeds) for task in found.only(seeds=[1]).tasks] == [('tune', (1,))]
    assert found.only() == found
    with pytest.raises(ValueError, match=r'--labels 0\.5: the suite mine has 0\.1, 1\.0'):
        found.only(labels=[0.5])
    with pytest.raises(ValueError, match=r'--seeds 7: the suite mine has 0, 1, 5'):
        found.only(seeds=[7])
    with pytest.raises(ValueError, match='no task for that choice'):
        found.only(tasks=['tune'], data=['two'])


@pytest.mark.parametrize('name', SUITES)
def test_the_head_of_ours_is_a_recipe_card(name: str):
    card = ast.get_docstring(ast.parse((CONFIGS / 'transfer' / f'{name}.py').read_text()))
    entries = dict(re.findall(r'^(Run|Data|Expect) +(.+(?:\n .+)*)', card, flags=re.M))
    assert entries.keys() == {'Run', 'Data', 'Expect'}
    assert entries['Run'].startswith(f'python tools/transfer.py {name} ')


@pytest.mark.parametrize('name', SUITES)
def test_ours_name_configs_that_log_what_they_ask_for(name: str):
    found = load_suite(name, CONFIGS)
    for task in found.tasks:
        configs = task.config.values() if isinstance(task.config, dict) else [task.config] if task.config else []
        for config in configs:
            cfg = Config.fromfile(CONFIGS / config, import_custom_modules=False)
            assert cfg.val_cfg is not None
            evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
            wanted = {key.split('/')[0] for key in task.metrics}
            known = {'CocoMetric': {'coco'}, 'IoUMetric': {'mIoU'}, 'mae_backbone.TopKAccuracy': {'accuracy'}}
            assert wanted <= set().union(*(known.get(evaluator.type, set()) for evaluator in evaluators)), config
        if isinstance(task.config, dict):
            assert task.config.keys() <= ARCHS.keys()
            with pytest.raises(ValueError, match='none for an encoder'):
                task.config_for(None)
        assert task.probe is None or task.probe in PROBES
