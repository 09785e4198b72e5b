"""`mae-backbone auto` does each step once, and continues where it stopped."""
import json
import os
from pathlib import Path

import pytest
from helpers.own_sets import write_classes, write_images

from mae_backbone.cli import python_api
from mae_backbone.cli.auto_steps import AutoRun
from mae_backbone.cli.main import main
from mae_backbone.planning.rules import lengths

OPTIONS = dict(task=None, unlabeled=None, pretrained=None, hours=0.001)


class Commands:
    """Commands that write what the real ones would, and are interrupted at one of them."""

    def __init__(self, stop_at: str = '') -> None:
        self.names: list[str] = []
        self.stop_at = stop_at

    def __call__(self, name: str, *arguments: object, **options: object) -> dict[str, float]:
        self.names.append(name)
        if name == self.stop_at:
            raise KeyboardInterrupt
        if name == 'plan':
            for suffix in ('', '_pretrain'):
                path = Path(str(options['out']))
                path.with_stem(path.stem + suffix).write_text("model = dict(type='MaskRCNN')")
        if name in ('pretrain', 'train'):
            folder = Path(str(options['work_dir']))
            folder.mkdir(exist_ok=True)
            (folder / 'best_iter_3.pth').write_bytes(b'')
        return {'accuracy': 0.5} if name == 'test' else {}


@pytest.mark.parametrize('stop_at', ['plan', 'pretrain', 'train', 'test'])
def test_an_interrupted_run_continues(tmp_path, monkeypatch, stop_at):
    first, second, third = Commands(stop_at), Commands(), Commands()
    monkeypatch.setattr(python_api, 'run_command', first)
    with pytest.raises(KeyboardInterrupt):
        AutoRun(tmp_path, 'data', OPTIONS).run()
    monkeypatch.setattr(python_api, 'run_command', second)
    assert AutoRun(tmp_path, 'data', OPTIONS).run() == {'accuracy': 0.5}
    assert first.names[:-1] + second.names == ['plan', 'pretrain', 'train', 'test']
    assert first.names[-1] == second.names[0] == stop_at
    monkeypatch.setattr(python_api, 'run_command', third)
    assert AutoRun(tmp_path, 'data', OPTIONS).run() == {'accuracy': 0.5}
    assert third.names == []
    assert 'accuracy' in (tmp_path / 'index.html').read_text()


def test_other_options_do_not_continue_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(python_api, 'run_command', Commands())
    AutoRun(tmp_path, 'data', OPTIONS).run()
    with pytest.raises(ValueError, match=r'holds a run with other options \(data: .*data there, .*other now; '
                                         r'hours: 0.001 there, not given now\)'):
        AutoRun(tmp_path, 'other', {**OPTIONS, 'hours': None})


@pytest.mark.parametrize('change', ['', 'label', 'image', 'result'])
def test_data_that_changed_after_the_plan_are_named(tmp_path, monkeypatch, capsys, change):
    monkeypatch.setattr(python_api, 'run_command', Commands())
    data = tmp_path / 'data'
    paths = write_images(data, 2)
    folder = data / 'results'
    folder.mkdir()
    AutoRun(folder, str(data), OPTIONS).run()
    if change == 'label':
        os.utime(paths[0], (2e9, 2e9))
    elif change:
        write_images(folder if change == 'result' else data / 'more', 1)
    capsys.readouterr()
    AutoRun(folder, str(data), OPTIONS).run()
    assert ('have changed since this run was planned' in capsys.readouterr().out) == (change in ('label', 'image'))


def test_the_pretraining_of_a_killed_plan_is_not_run(tmp_path, monkeypatch):
    (tmp_path / 'plan_pretrain.py').write_text('')
    commands = Commands()

    def run(name: str, *arguments: object, **options: object) -> dict[str, float]:
        result = {} if name == 'plan' else commands(name, *arguments, **options)
        if name == 'plan':
            (tmp_path / 'plan.py').write_text("model = dict(type='MaskRCNN')")
        return result
    monkeypatch.setattr(python_api, 'run_command', run)
    AutoRun(tmp_path, 'data', OPTIONS).run()
    assert commands.names == ['train', 'test']


@pytest.mark.parametrize('content', ['{', '[]', '{"what": {}}', '{"steps": 3}'])
def test_damaged_marks_are_refused(tmp_path, content):
    (tmp_path / 'auto.json').write_text(content)
    with pytest.raises(ValueError, match=r'is damaged .*: remove it'):
        AutoRun(tmp_path, 'data', OPTIONS)


@pytest.mark.slow
def test_classes_from_folder_to_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lengths, '_MIN_ITERATIONS', 4)
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / 'data', train=4, val=2)
    with python_api.unchanged_process():
        assert main(['auto', 'data', '--hours', '1e-9']) == 0
    said = capsys.readouterr().out
    assert sum(line.startswith('accuracy/top1: ') for line in said.splitlines()) == 1
    assert 'next: mae-backbone predict work_dirs/auto_data/train/best_' in said
    marks = json.loads(Path('work_dirs/auto_data/auto.json').read_text())
    assert list(marks['steps']) == ['plan', 'pretrain', 'train', 'test']
    assert 'data:image/png' in Path('work_dirs/auto_data/index.html').read_text()


def test_a_folder_without_labels_is_pretrained(tmp_path, monkeypatch):
    write_images(tmp_path / 'data', 2)
    commands = Commands()

    def run(name: str, *arguments: object, **options: object) -> dict[str, float]:
        result = commands(name, *arguments, **options)
        if name == 'plan':
            (tmp_path / 'plan_pretrain.py').unlink()
            (tmp_path / 'plan.py').write_text("model = dict(type='mae_backbone.MAEPretrainer')")
        return result
    monkeypatch.setattr(python_api, 'run_command', run)
    assert AutoRun(tmp_path, 'data', OPTIONS).run() == {}
    assert commands.names == ['plan', 'pretrain']
