"""Config in a checkpoint: the parts that our configs need are built, everything else is refused."""
import os
from pathlib import Path

import pytest
import torch
from helpers.model_files import classifier_config, mae_config, model_of, write_checkpoint
from helpers.small_sets import write_image
from mmengine.config import Config

from mae_backbone.cli.main import main
from mae_backbone.prediction.building import build_model
from mae_backbone.prediction.embedded_config import EmbeddedConfigError, safe_config
from mae_backbone.prediction.loading import load
from mae_backbone.utils.config_files import configs_root

CONFIGS = sorted(path for path in configs_root().rglob('*.py') if not {'_base_', 'transfer'} & set(path.parts))
TRAP = 'touched'  # a file that code in a config would make


def content_of(cfg: Config | str) -> dict:
    return {'meta': {'cfg': cfg if isinstance(cfg, str) else cfg.pretty_text}, 'state_dict': {}}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_of_the_package_are_allowed_and_keep_their_model(path: Path):
    cfg = Config.fromfile(path)
    safe = safe_config(content_of(cfg), path, with_data=True)
    assert without_start(safe.model.to_dict()) == without_start(cfg.model.to_dict())
    assert '/' not in str(safe.model.to_dict())


def without_start(node: object) -> object:
    if isinstance(node, dict):
        return {key: without_start(value) for key, value in node.items() if key not in ('init_cfg', 'teacher')}
    return type(node)(map(without_start, node)) if isinstance(node, (list, tuple)) else node


def hostile(**changes: object) -> dict:
    cfg = classifier_config()
    cfg.merge_from_dict(changes)
    return content_of(cfg)


CODE = f'open({TRAP!r}, "w")'


@pytest.mark.parametrize('changes', [
    {'model.type': 'os.system'},
    {'model.type': 'builtins.eval'},
    {'model.type': 'mae_backbone.cli.main.main'},
    {'model.type': 'subprocess.Popen'},
    {'model.type': 'trap.Model'},
    {'model.type': 'trap'},
    {'model.data_preprocessor.type': 'torch.hub.load'},
    {'model.data_preprocessor._scope_': 'trap'},
    {'model.backbone.arch': CODE},
    {'model.backbone.nms': dict(type=CODE)},
    {'model.nms': dict(type='exit')},
    {'model.roi_layer': dict(type='os')},
    {'model.class_weight': 'weights.pkl'},
    {'model.extra': 'https://example.org/x.pth'},
    {'model.extra': '/etc/passwd'},
    {'model.extra': dict(type='mmdet.BertModel', name='bert')},
    {'model.extra': dict(type='mmdet.KnowledgeDistillationSingleStageDetector', teacher_config='trap')},
    {'model.extra': dict(type='mmseg.VPD')},
    {'model.extra': dict(type='mmseg.TIMMBackbone', model_name='resnet50')},
    {'model.backbone': dict(type='mae_backbone.TimmViT', name='hf-hub:a/b')},
    {'model.backbone': dict(type='mae_backbone.TimmViT', name='local-dir:x')},
    {'default_scope': 'trap'},
    {'default_scope': 'os'},
    {'tta_model': dict(type='os.system')},
    {'test_dataloader.dataset.type': 'trap.Data'},
    {'test_dataloader.dataset.pipeline': [dict(type='mmdet.Albu', transforms=[dict(type='x')])]},
    {'test_dataloader.dataset.pipeline': [dict(type='os.system')]},
    {'test_dataloader.dataset.reader': dict(type='trap')},
], ids=lambda changes: '-'.join(f'{key}={value}'[:60] for key, value in changes.items()))
def test_a_hostile_config_is_refused_and_nothing_runs(changes: dict, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ('trap.py', 'trap/registry.py', 'trap/__init__.py'):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(CODE)
    torch.save(hostile(**changes), 'a.pth')
    with pytest.raises(EmbeddedConfigError, match=r'a\.pth: its config'):
        load('a.pth')
    assert not Path(TRAP).exists()


@pytest.mark.parametrize('text', [
    f'{CODE}\nmodel = dict(type="mae_backbone.MAEPretrainer")',
    f'model = dict(type="mae_backbone.MAEPretrainer", encoder={CODE})',
    f'model = dict(type=__import__("os").system, command="touch {TRAP}")',
    f'import os\nos.system("touch {TRAP}")\n',
    '_base_ = ["/trap.py"]\nmodel = {{_base_.model}}',
    '(' * 10_000, 'model = ' + '[' * 200 + ']' * 200, 'model = dict(' * 3000, '\0', 'a' * 5_000_000,
    '-' * 100_000 + '1',
])
def test_text_that_is_code_is_not_executed(text: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content_of(text) | {'state_dict': {'a': torch.zeros(2)}}, 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth'):
        load('a.pth')
    assert os.listdir() == ['a.pth']


def test_imports_and_starting_weights_of_the_text_are_left_out(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path('trap.py').write_text(CODE)
    cfg, model = model_of('classification', tmp_path)
    cfg.custom_imports = dict(imports=['trap'], allow_failed_imports=False)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='https://example.org/weights.pth')
    cfg.load_from, cfg.custom_hooks = '/etc/passwd', [dict(type='trap.Hook')]
    torch.save(content_of(cfg) | {'state_dict': model.state_dict()}, 'a.pth')
    assert load('a.pth').classes == ('class 0', 'class 1', 'class 2')
    assert not Path(TRAP).exists()


@pytest.mark.parametrize('changes', [
    {'test_dataloader.dataset.classes': 'names.txt'},
    {'test_dataloader.dataset.data_prefix': dict(img='../../etc')},
    {'test_dataloader.dataset.ann_file': '/etc/passwd'},
    {'test_dataloader.dataset.ann_file': 'labels.pkl'},
    {'test_dataloader.dataset.img': 's3://bucket/x'},
    {'test_dataloader.sampler': dict(type='trap.Sampler')},
    {'test_evaluator': dict(type='DumpResults', out_file_path='x.pkl')},
    {'test_evaluator': dict(type='os.system')},
    {'test_evaluator': dict(type='mae_backbone.TopKAccuracy', file='/etc/shadow')},
    {'test_cfg': dict(type='trap.Loop')},
], ids=lambda changes: '-'.join(f'{key}={value}'[:60] for key, value in changes.items()))
def test_data_outside_of_the_data_root_are_refused(changes: dict):
    with pytest.raises(EmbeddedConfigError, match='its config is not used'):
        safe_config(hostile(**changes), 'a.pth', with_data=True)


def test_data_lie_in_the_folder_that_the_user_names():
    cfg = safe_config(hostile(**{'test_dataloader.dataset.data_root': '/home/someone/data'}), 'a.pth', with_data=True)
    assert cfg.test_dataloader.dataset.data_root == 'DATA_ROOT'


@pytest.mark.parametrize('changes', [
    {'model.encoder.arch': dict(width=100_000, depth=3, heads=1)},
    {'model.encoder.arch': dict(width=64, depth=10**9, heads=1)},
    {'model.encoder.image_size': 10**6},
    {'model.decoder_width': 10**5},
])
def test_a_config_of_a_huge_model_ends_before_the_memory_does(changes: dict):
    cfg = mae_config()
    cfg.merge_from_dict(changes)
    with pytest.raises(ValueError, match=r'many times more|cannot|could not'):
        build_model(cfg, {'a': torch.zeros(10)})


def test_the_message_of_a_refused_config_ends_the_command(tmp_path: Path, capsys):
    torch.save(hostile(**{'model.type': 'os.system'}), tmp_path / 'a.pth')
    assert main(['predict', str(tmp_path / 'a.pth'), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "model has the type 'os.system', which is not registered" in error
    assert 'Traceback' not in error


@pytest.mark.parametrize(('command', 'task', 'message'), [
    ('predict', 'pretraining', 'mae-backbone visualize'), ('test', 'detection', '--data-root DIR'),
])
def test_a_file_of_another_task_is_refused_by_the_command(command: str, task: str, message: str, tmp_path: Path,
                                                          capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / 'image.png', (72, 48))
    arguments = [write_checkpoint(task, tmp_path), *['image.png'] * (command != 'test')]
    assert main([command, *map(str, arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_detector_and_a_mae_alone_go_through_the_commands(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / 'image.png', (72, 48))
    for command, task, out in (('predict', 'detection', 'predictions/image.png'),
                               ('visualize', 'pretraining', 'reconstruction.png')):
        assert main([command, str(write_checkpoint(task, tmp_path / task)), 'image.png']) == 0
        assert Path(out).is_file()
