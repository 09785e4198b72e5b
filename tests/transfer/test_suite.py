"""Suites: read from configs, with a message for every mistake."""
import ast
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mae_backbone.core.vit import ARCHS
from mae_backbone.transfer.suite import Cell, cells_of, load_suite
from mae_backbone.transfer.suite_configs import SuiteConfigs
from mae_backbone.transfer.task import PROBES

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
    return load_suite(str(folder / 'mine.py'))


def test_a_suite_is_the_product_of_its_lists(tmp_path):
    found = suite(tmp_path)
    cells = list(cells_of(found, ['mae', 'random']))
    assert len(cells) == len(set(cells)) == (2 * 2 * 1 + 1 * 2 * 2) * 2
    assert len({cell.folder for cell in cells}) == len(cells)
    assert cells[0] == Cell('knn', 'one', 0.1, 5, 'mae')
    assert found.text == SMALL


def test_folders_of_cells_lie_in_the_work_directory():
    assert '..' not in Cell('knn', 'one', 0.1, 0, 'run/../../epoch_1').folder.parts


@pytest.mark.parametrize(('old', 'new', 'says'), [
    ("seeds = [0, 1]", "sedes = [0, 1]", "has the unknown key sedes"),
    ("probe='knn'", "prob='knn'", "task 'knn' has the unknown key prob"),
    ("probe='knn'", "probe='knm'", "expected one of knn, linear"),
    ("probe='knn'", "probe='knn', config='a.py'", "set exactly one of them"),
    ("probe='knn'", "peer='yolo', minutes=1", "has peer='yolo', expected one of resnet18, unet, "),
    ("probe='knn'", "peer='unet', minutes=1, compare_to='x'", "the peer unet uses the data set of another task"),
    ("probe='knn'", "peer='resnet18', probe='knn', minutes=1", "has a peer, and a probe or config too"),
    ("probe='knn'", "peer='resnet18'", "has minutes=None: expected the CPU minutes"),
    ("probe='knn'", "peer='resnet18', minutes=1, compare_to='x'", "is compared to 'x': the suite has tune"),
    ("probe='knn'", "probe='knn', compare_to='tune'", "only a peer has these"),
    ("cifar10.py'", "cifar10.py', metrics={'accuracy/top1': 'accuracy'}, data=['one']), peer=dict("
     "peer='resnet18', minutes=1, compare_to='tune'",
     "which measures accuracy: the peer resnet18 measures top-1. Name a metric"),
    ("probe='knn'", "probe='knn', length=3", "has length=3: expected a number of epochs or iterations of a training"),
    ("title = 'Small'", "title = 'Small'\nagainst = ['mae']", "compares with mae: expected random or a name"),
    ("title = 'Small'", "title = 'Small'\nencoders = dict(a=dict(checkpoint='x', on=dict(labels=[0.5])))",
     "encoder 'a' is evaluated on the labels 0.5: the suite has 0.1, 1.0"),
    ("data=['one']", "data=['three']", "uses the data three: the suite has one, two"),
    ("[0.1, 1.0]", "[0.0]", "expected fractions in"),
    ("title = 'Small'", "", "lacks title"),
    ("labels = [0.1, 1.0]", "labels = 0.1", "task 'knn': labels is 0.1: expected a list, such as [0.1]"),
    ("labels = [0.1, 1.0]", "labels = ['1 %']", "has labels=['1 %']: expected fractions"),
    ("seeds = [0, 1]", "seeds = 0", "task 'tune': seeds is 0: expected a list, such as [0]"),
    ("seeds = [0, 1]", "seeds = [0.5]", "has seeds=[0.5]: expected integers"),
    ("data=['one']", "data='one'", "task 'tune': data is 'one': expected a list, such as ['one']"),
    ("data=['one']", "data=[['one']]", "uses the data ['one']: the suite has one, two"),
    ("data = dict(one='one', two='folder')", "data = 'cifar10'", "data is 'cifar10': expected dict("),
    ("knn=dict(probe='knn', data=['one', 'two'], seeds=[5])", "knn='knn'", "task 'knn' is 'knn': expected dict("),
    ("title = 'Small'", "title = 'Small'\nreported = ['a']", "an entry of `reported` is 'a': expected a dict"),
    ("title = 'Small'", f"title = 'Small'\n{REPORTED.replace('tiny', 'tinny')}", "'tinny': expected one of"),
    ("title = 'Small'", f"title = 'Small'\n{REPORTED.replace('1.5', 'None')}", "is None: expected percent"),
    ("seeds = [0, 1]", "seeds = [-1]", "task 'tune' has seeds=(-1,): expected numbers from 0 on"),
    ("cifar10.py'", "cifar10.py', metrics={}", "has metrics={}: expected a dict from names in the log to different"),
    ("cifar10.py'", "cifar10.py', metrics=['mIoU']", "has metrics=['mIoU']: expected a dict"),
    ("cifar10.py'", "cifar10.py', metrics=dict(box='AP', mask='AP')", "'mask': 'AP'}: expected a dict"),
    ("cifar10.py'", "cifar10.py', options=['amp']", "has options=['amp']: expected a dict such as"),
    ("cifar10.py'", "cifar10.py', scale='100'", "has scale='100': expected a number such as 100.0"),
    ("cifar10.py'", "cifar10.py', gpus='8'", "has gpus='8': expected a number of GPUs, 1 or more"),
    ("cifar10.py'", "cifar10.py', pictures=None", "has pictures=None: expected a number of images, 0 or more"),
    ("cifar10.py'", "cifar10.py', amp='yes'", "has amp='yes': expected True or False"),
    ("config='demo/vit-micro_finetune_cifar10.py'", "config=['a.py']", "has config=['a.py']: expected a path"),
    ("config='demo/vit-micro_finetune_cifar10.py'", "config={'tiny': 5}", "has config={'tiny': 5}: expected a path"),
    ("cifar10.py'", "cifar10.py', metrics={'val/loss': 'loss'}", "expected metrics of which larger values are better"),
    ("data = dict(one='one', two='folder')", "data = dict()", "has no data set: give at least one"),
    ("knn=dict(probe", "**{'../knn': 'x'}, knn=dict(probe", "the task '../knn' names a folder: expected a name"),
    ("one='one', two", "**{'a/b': 'one'}, one='one', two", "the data set 'a/b' names a folder: expected a name"),
    ("two='folder'", "two=5", "data 'two' is 5: expected the path of a folder"),
    ("title = 'Small'", "title = 5", "has title=5: expected a text"),
    ("title = 'Small'", "title = 'Small'\nencoders = dict(a=dict(checkpoint=5))", "encoder 'a' of the suite"),
    ("title = 'Small'", "title = 'Small'\nencoders = dict(a=dict(timm='x', options=[1]))", "encoder 'a' of the suite"),
    ("title = 'Small'", "title = 'Small'\nencoders = dict(a=dict(like=['b']))", "encoder 'a' of the suite"),
    ("title = 'Small'", "title = 'Small'\nimage_size = '224'", "has image_size='224': expected a number of pixels"),
    ("title = 'Small'", "title = 'Small'\nreported = [dict(task='knn')]", "expected arch, data, metric, name"),
])
def test_mistakes_are_named(tmp_path, old: str, new: str, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        suite(tmp_path, SMALL.replace(old, new))


def test_two_peers_of_one_name_in_one_row_are_refused(tmp_path):
    """Otherwise the result of the second one replaces the result of the first one."""
    peers = '''
tasks.update(
    short=dict(peer='resnet18', compare_to='tune', minutes=1, data=['one'], labels=[0.1]),
    long=dict(peer='resnet18', compare_to='tune', minutes=9, data=['one'], labels=[LABELS]))
'''
    assert len(suite(tmp_path, SMALL + peers.replace('LABELS', '1.0')).tasks) == 4
    with pytest.raises(ValueError, match="'short' and 'long' have the same peer resnet18 in the same row of the table"):
        suite(tmp_path, SMALL + peers.replace('LABELS', '0.1'))


def test_a_list_of_tasks_is_refused(tmp_path):
    with pytest.raises(ValueError, match='has no task: give at least one'):
        suite(tmp_path, "title = 'Small'\ndata = dict(one='one')\ntasks = dict()")
    with pytest.raises(ValueError, match=re.escape("tasks is ['knn']: expected dict(NAME=dict(...))")):
        suite(tmp_path, "title = 'Small'\ndata = dict(one='one')\ntasks = ['knn']")


def test_a_published_result_is_kept_unchanged(tmp_path):
    [number] = suite(tmp_path, SMALL + REPORTED).reported
    assert (number['arch'], number['value']) == ('tiny', 1.5)


def test_an_unknown_suite_lists_the_known_ones():
    with pytest.raises(ValueError, match=f'choose from {", ".join(SUITES)}'):
        load_suite('no_such_suite')


def test_selection_of_a_suite_has_the_selected_parts(tmp_path):
    found = suite(tmp_path)
    part = found.only(tasks=['knn'], labels=[1.0])
    assert [(task.name, task.data, task.labels) for task in part.tasks] == [('knn', ('one', 'two'), (1.0,))]
    assert list(found.only(tasks=['tune']).data) == ['one']
    assert [(task.name, task.seeds) for task in found.only(seeds=[1]).tasks] == [('tune', (1,))]
    assert found.only() == found
    with pytest.raises(ValueError, match=r'--labels 0\.5: the suite mine has 0\.1, 1\.0'):
        found.only(labels=[0.5])
    with pytest.raises(ValueError, match=r'--seeds -1: expected numbers from 0 on'):
        found.only(seeds=[0, -1])
    with pytest.raises(ValueError, match='no task for this combination'):
        found.only(tasks=['tune'], data=['two'])


def test_more_seeds_repeat_the_tasks_that_the_suite_repeats(tmp_path):
    more = suite(tmp_path).only(seeds=[0, 1, 2, 5, 5])
    assert {task.name: task.seeds for task in more.tasks} == {'knn': (5,), 'tune': (0, 1, 2, 5)}


@pytest.mark.parametrize('name', SUITES)
def test_the_head_of_a_suite_is_a_recipe_card(name: str):
    card = ast.get_docstring(ast.parse((CONFIGS / 'transfer' / f'{name}.py').read_text()))
    entries = dict(re.findall(r'^(Run|Data|Expect) +(.+(?:\n .+)*)', card, flags=re.M))
    assert entries.keys() == {'Run', 'Data', 'Expect'}
    assert entries['Run'].startswith(f'mae-backbone transfer {name} ')


@pytest.mark.parametrize('name', SUITES)
def test_suites_use_configs_that_log_their_metrics(name: str):
    found = load_suite(name)
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
            with pytest.raises(ValueError, match='none for the custom one'):
                task.config_for(None)
        assert task.probe is None or task.probe in PROBES
    configs = SuiteConfigs(name)
    for entry in found.encoders.values():
        if entry.recipe:
            assert configs.architecture(entry.recipe.config, entry.recipe.options).width
