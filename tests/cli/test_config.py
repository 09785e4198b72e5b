"""Config files and options of the command line become the config of a run."""
import argparse

import pytest
from mmengine.config import Config

from mae_backbone.cli import config as cli_config
from mae_backbone.utils.config_files import drop_scope


@pytest.mark.parametrize('key', ['optim_wraper', 'train_dataloder', 'param_schedular'])
def test_misspelled_key_of_a_config_is_named(key):
    with pytest.raises(ValueError, match=rf'{key}.*did you mean'):
        cli_config.check_keys(Config({key: {}}), {})


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
def test_checkpoint_in_place_of_the_config_of_a_training_is_refused(name):
    args = argparse.Namespace(config=name, cfg_options=None, data_root=None)
    with pytest.raises(ValueError, match=rf'{name} is a checkpoint, and this command needs a config.*--resume'):
        cli_config.load_config(args)


def test_config_without_a_test_is_refused_and_an_empty_test_cfg_is_a_test():
    cfg = Config(dict(test_dataloader=dict(batch_size=1), test_cfg=dict(), test_evaluator=dict(type='CocoMetric')))
    cli_config.check_test(cfg, 'c.py')
    cfg.test_evaluator = None
    with pytest.raises(ValueError, match=r'c\.py has no test_evaluator, which a test needs'):
        cli_config.check_test(cfg, 'c.py')


def test_misspelled_option_is_named():
    with pytest.raises(ValueError, match=r'did you mean .train_dataloader'):
        cli_config.check_keys(Config(dict(model={})), {'train_dataloder.batch_size': 2})
    cli_config.check_keys(Config(dict(model={})), {'train_cfg.max_epochs': 1})


@pytest.mark.parametrize(('option', 'similar'), [
    ('model.test_cfg.scor_thr', 'score_thr'), ('tta.ratio', 'ratios'), ('pipeline.0.scalee', 'scale')])
def test_misspelled_option_below_the_top_level_is_named(option: str, similar: str):
    cfg = Config(dict(model=dict(test_cfg=dict(score_thr=0.5, nms=dict())), tta=dict(ratios=[1.0]),
                      pipeline=[dict(type='Resize', scale=3)], test_pipeline=None))
    cli_config._check_spelling(cfg, f'{option.rpartition(".")[0]}.{similar}', {})
    with pytest.raises(ValueError, match=rf'{option}: the config has no key .* did you mean {similar!r}'):
        cli_config._check_spelling(cfg, option, {option: 1})
    with pytest.raises(ValueError, match='did you mean'):
        cli_config.check_keys(Config(dict(model=cfg.model)), {'model.test_cfg.scor_thr': 1})
    for other in ('model.test_cfg.max_per_img', 'model.new.score_thr', 'tta.flip', 'pipeline.7.scalee'):
        cli_config._check_spelling(cfg, other, {other: 1})
    cli_config._check_spelling(cfg, 'pipeline.0.scales', {'pipeline.0.scales': 1, 'pipeline.0.type': 'Other'})


def test_folder_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match=r'--work-dir .* cannot be written'):
        cli_config.make_folder(str(tmp_path / 'file' / 'below'), '--work-dir')
    cli_config.make_folder(str(tmp_path / 'new'), '--work-dir')
    assert not list((tmp_path / 'new').iterdir())


CFG = dict(max_iters=3500, train_cfg=dict(max_iters=3500), param_scheduler=[dict(end=100), dict(begin=100, end=3500)],
           own_variable='x', model=dict())


@pytest.mark.parametrize(('option', 'advice'), [
    ('max_iters', r'pass --iters, or set train_cfg\.max_iters, param_scheduler\.1\.end'),
    ('own_variable', 'set the keys that use it, or change it in the config file')])
def test_variable_that_the_config_has_used_is_refused_with_the_keys_that_count(option: str, advice: str):
    with pytest.raises(ValueError, match=f'--cfg-options {option} has no effect: .*{advice}'):
        cli_config.check_keys(Config(CFG), {option: 300})
    cli_config.check_keys(Config(CFG), {'train_cfg.max_iters': 300})


def test_options_are_parsed_as_in_mmengine():
    assert cli_config.parse_options(['a.b=1', 'c=[1,2]', 'd=True', 'e=None', 'f=x=y', 'g=-1e-3']) == {
        'a.b': 1, 'c': [1, 2], 'd': True, 'e': None, 'f': 'x=y', 'g': -1e-3}
    assert cli_config.parse_options([]) == {}


@pytest.mark.parametrize('value', ['dict(a=1)', 'dict(a=1,b=2)', '{a:1}', "{'a':1,'b':[1,2]}", '(1,2', '[1,2', '1,(2',
                                   '[(1,2],3)'])
def test_options_with_unmatched_brackets_or_a_dict_are_refused(value: str):
    with pytest.raises(ValueError, match='A dict is set key by key'):
        cli_config.parse_options(['a.b=1', f'model.c={value}'])


def test_scope_of_a_base_in_the_package_is_the_default_scope():
    cfg = Config(dict(hook=dict(type='DetVisualizationHook', _scope_='mae_backbone'),
                      model=[dict(type='MaskRCNN', _scope_='mmdet')]))
    drop_scope(cfg._cfg_dict)
    assert cfg.to_dict() == dict(hook=dict(type='DetVisualizationHook'), model=[dict(type='MaskRCNN', _scope_='mmdet')])


def test_second_run_in_a_work_directory_is_refused_until_the_first_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(cli_config, 'LOCK_TIMEOUT', 0.1)
    with cli_config.locked_work_dir(tmp_path):
        with pytest.raises(ValueError, match=r'another run is writing to .*choose another --work-dir'), \
                cli_config.locked_work_dir(tmp_path):
            pass
        monkeypatch.setenv('RANK', '1')
        with cli_config.locked_work_dir(tmp_path):  # a process of the first run
            pass
    monkeypatch.setenv('RANK', '0')
    with cli_config.locked_work_dir(tmp_path):
        pass


@pytest.mark.parametrize(('option', 'given', 'refused'), [
    ('train_cfg.max_iters=7', {}, True), ('train_cfg.max_iters=9', {}, False),
    ('optim_wrapper.lr=0.1', {'lr': 0.2}, True), ('optim_wrapper.lr=0.1', {'lr': None}, False),
    ('param_scheduler.0.end=5', {}, True), ('param_scheduler.0.end=9', {}, False),
    ('model.0.num_classes=7', {}, True), ('model.0.num_classes=3', {}, False)])
def test_option_that_another_one_or_the_data_replace_is_refused(option: str, given: dict, refused: bool):
    """Without --lr the learning rate of the config is scaled with the batch, which the plan shows."""
    cfg = Config(dict(train_cfg=dict(max_iters=9), optim_wrapper=dict(lr=0.2), model=[dict(num_classes=3)],
                      param_scheduler=[dict(type='LinearLR', end=9)]))
    args = argparse.Namespace(**{'cfg_options': [option], 'lr': None} | given)
    if not refused:
        cli_config.check_kept(cfg, args)
        return
    with pytest.raises(ValueError, match='has no effect'):
        cli_config.check_kept(cfg, args)


def test_settings_of_test_time_augmentation_need_its_option():
    for args in (argparse.Namespace(data_root=None), argparse.Namespace(data_root=None, tta=True)):
        cli_config._check_conflicts(args, {'tta.ratios': [0.5]})
    with pytest.raises(ValueError, match=r'--cfg-options tta\.ratios has no effect .* pass --tta too'):
        cli_config._check_conflicts(argparse.Namespace(data_root=None, tta=False), {'tta.ratios': [0.5]})


def test_text_in_place_of_a_flag_is_refused():
    cfg = Config(dict(model=[dict(use_sigmoid=False)]))
    cli_config._check_flags(cfg, {'model.0.use_sigmoid': True, 'model.0.other': 'text'})
    with pytest.raises(ValueError, match='expected True or False'):
        cli_config._check_flags(cfg, {'model.0.use_sigmoid': 'maybe'})
