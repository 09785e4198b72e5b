"""The Runner: checkpoints are complete, resumed exactly, refused if they do not fit, and never executed."""
import argparse
import copy
import errno
import io
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import mmengine.runner
import pytest
import torch
from helpers.commands import forget_instances
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import DiskFullError, read_run, resume_path
from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import Mask, random_mask
from mae_backbone.core.vit import ViT
from mae_backbone.engine.runner import Runner

ENCODER = dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=8)
PREPROCESSOR = dict(type='ImgDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3)
MODEL = dict(type='mae_backbone.MAEPretrainer', encoder=ENCODER, decoder_width=8, decoder_depth=1, decoder_heads=1,
             data_preprocessor=PREPROCESSOR)
COUNT = itertools.count()


@DATASETS.register_module(force=True)
class EightFixedImages(Dataset):
    def __init__(self, number: int = 8) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> dict:
        generator = torch.Generator().manual_seed(i)
        return dict(inputs=torch.randint(256, (3, 16, 16), dtype=torch.uint8, generator=generator), data_samples=i % 2)


@pytest.fixture(autouse=True)
def _fixed_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the random numbers is not in a checkpoint."""
    def mask(self: MAE, patches: Tensor, grid: tuple[int, int], seeds: Tensor | None) -> Mask:
        return random_mask(patches, self.mask_ratio, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(MAE, 'draw_mask', mask)


def config(work_dir: Path, *, epochs: int = 1, model: dict = MODEL, **options) -> Config:
    return Config(copy.deepcopy(dict(
        model=model, work_dir=str(work_dir), experiment_name=f'test-{next(COUNT)}', randomness=dict(seed=0),
        train_dataloader=dict(dataset=dict(type='EightFixedImages'), batch_size=4, num_workers=0,
                              sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=6, by_epoch=False),
        custom_hooks=[dict(type='mae_backbone.DeviceLogHook')], **options)))


def trained(work_dir: Path, **options) -> Runner:
    runner = Runner.from_cfg(config(work_dir, **options))
    runner.train()
    return runner


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp('run')
    trained(folder)
    return folder / 'epoch_1.pth'


def changed(source: Path, target: Path, change: Callable[[dict], object]) -> Path:
    """A copy of a checkpoint, changed in place by `change`."""
    content = torch.load(source, weights_only=False)  # written by this test; its history is no tensor
    change(content)
    torch.save(content, target)
    return target


# ---- resuming

@pytest.mark.parametrize(('change', 'says'), [
    # Its schedule would be stepped a billion times.
    (lambda run: run['meta'].update(iter=10**9), 'was saved after 1,000,000,000 iterations, and the training of this '
     'config has 6'),
    (lambda run: run['optimizer']['param_groups'][0].update(lr=float('nan')), 'its optimizer has no groups'),
    (lambda run: run['optimizer']['param_groups'][0].update(initial_lr='x'), 'its optimizer has no groups')])
def test_positions_and_rates_that_a_run_cannot_have_are_refused(checkpoint: Path, tmp_path: Path, change, says: str):
    path = changed(checkpoint, tmp_path / 'epoch_1.pth', change)
    with pytest.raises(CheckpointError, match=says):
        trained(tmp_path / 'run', epochs=3, load_from=str(path), resume=True)


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path):
    whole = trained(tmp_path / 'whole', epochs=3)
    resumed = trained(tmp_path / 'rest', epochs=3, load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True)
    assert (resumed.epoch, resumed.iter) == (whole.epoch, whole.iter) == (3, 6)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    a, b = (run.optim_wrapper.state_dict()['state'] for run in (resumed, whole))
    assert len(a) > 0
    assert all(torch.equal(a[i][key], b[i][key]) for i in b for key in b[i])
    losses = [run.message_hub.get_scalar('train/loss').data[0] for run in (resumed, whole)]
    assert losses[0].tolist() == losses[1].tolist()
    assert len(losses[0]) == 6


def settings_of(runner: Runner) -> tuple[float, float]:
    group = runner.optim_wrapper.optimizer.param_groups[0]
    return group['lr'], group['weight_decay']


@pytest.mark.parametrize('changes', [
    {'optim_wrapper.optimizer.lr': 3e-3}, {'param_scheduler.T_max': 20},
    {'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False)]},
    {'optim_wrapper.optimizer.lr': 3e-3, 'param_scheduler': None},
    {'param_scheduler': [dict(type='ExponentialLR', gamma=0.5, by_epoch=True)]}], ids=str)
def test_changed_schedule_equals_run_that_always_had_it(tmp_path: Path, checkpoint: Path, changes: dict,
                                                        caplog: pytest.LogCaptureFixture):
    def run(folder: Path, **options) -> Runner:
        cfg = config(folder, epochs=2, **options)
        cfg.merge_from_dict(changes)
        runner = Runner.from_cfg(cfg)
        runner.logger.addHandler(caplog.handler)
        runner.train()
        return runner

    resumed = run(tmp_path / 'resumed', load_from=str(checkpoint), resume=True)
    assert settings_of(resumed) == pytest.approx(settings_of(run(tmp_path / 'whole')), rel=1e-9)
    assert 'differs from the checkpoint: the run continues at iteration 2' in caplog.text
    saved = read_run(tmp_path / 'resumed' / 'epoch_2.pth')['optimizer']['state'][0]
    assert saved['step'] == 4  # the moments go on


@pytest.mark.parametrize(('number', 'warns'), [(7, True), (8, False)])
def test_a_run_that_continues_on_other_images_is_named(tmp_path: Path, checkpoint: Path, number: int, warns: bool,
                                                       caplog: pytest.LogCaptureFixture):
    cfg = config(tmp_path, epochs=2, load_from=str(checkpoint), resume=True)
    cfg.train_dataloader.dataset.number = number  # an epoch has 2 iterations, as before
    runner = Runner.from_cfg(cfg)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    message = f'the run was started with 8 training images, and the data have {number} now: check --data-root'
    assert (message in caplog.text) == warns


def test_other_optimizer_settings_come_from_config(tmp_path: Path, checkpoint: Path):
    cfg = config(tmp_path, epochs=2, load_from=str(checkpoint), resume=True)
    cfg.optim_wrapper.optimizer.weight_decay = 0.3
    runner = Runner.from_cfg(cfg)
    runner.train()
    unchanged = trained(tmp_path / 'unchanged', epochs=2, load_from=str(checkpoint), resume=True)
    assert settings_of(runner) == (settings_of(unchanged)[0], 0.3)


@pytest.mark.parametrize(('changes', 'says'), [
    ({'train_dataloader.batch_size': 2}, 'was saved after 1 epochs and 2 iterations, .* has 4 iterations'),
    ({'optim_wrapper.optimizer': dict(type='SGD', lr=0.1, momentum=0.9, _delete_=True)}, 'other entries than SGD')],
    ids=str)
def test_incompatible_checkpoints_are_refused_at_resume(tmp_path: Path, checkpoint: Path, changes: dict, says: str):
    cfg = config(tmp_path, epochs=2, load_from=str(checkpoint), resume=True)
    cfg.merge_from_dict(changes)
    with pytest.raises(CheckpointError, match=says):
        Runner.from_cfg(cfg).train()


def test_auto_is_the_latest_checkpoint_if_there_is_any(tmp_path: Path, checkpoint: Path):
    assert resume_path('auto', checkpoint.parent) == str(checkpoint)
    assert resume_path('auto', tmp_path) is None
    assert resume_path('auto', tmp_path / 'absent') is None
    assert resume_path('any.pth', tmp_path) == 'any.pth'
    assert resume_path(None, checkpoint.parent) is None


def test_run_is_read_as_written_without_its_config(checkpoint: Path):
    found = read_run(checkpoint)
    wanted = torch.load(checkpoint, weights_only=False)  # written by this test; its history is no tensor
    assert found['meta'] == {key: value for key, value in wanted['meta'].items() if key != 'cfg'}
    assert 'EightFixedImages' in wanted['meta']['cfg']
    assert found['optimizer']['param_groups'] == wanted['optimizer']['param_groups']
    for name, history in wanted['message_hub']['log_scalars'].items():
        assert isinstance(found['message_hub']['log_scalars'][name], HistoryBuffer)
        for a, b in zip(found['message_hub']['log_scalars'][name].data, history.data, strict=True):
            assert a.tolist() == b.tolist()
    assert all(torch.equal(found['state_dict'][name], value) for name, value in wanted['state_dict'].items())


# ---- small sets

@pytest.mark.parametrize(('batch_size', 'steps', 'used'), [(128, 1, 8), (9, 1, 8), (8, 1, 8), (5, 1, 5)])
def test_a_set_smaller_than_a_batch_is_trained_on(tmp_path: Path, batch_size: int, steps: int, used: int,
                                                  caplog: pytest.LogCaptureFixture):
    cfg = config(tmp_path)
    cfg.train_dataloader.update(batch_size=batch_size, drop_last=True)
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=1, by_epoch=True, convert_to_iter_based=True)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == steps
    assert runner.train_dataloader.batch_size == used
    assert (f'{used} is used instead' in caplog.text) == (batch_size > 8)


# ---- writing

@pytest.mark.parametrize('before', [b'whole', None])
def test_failed_write_keeps_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None):
    runner = Runner.from_cfg(config(tmp_path, default_hooks=dict(checkpoint=None)))
    runner.train()
    if before is not None:
        (tmp_path / 'epoch_1.pth').write_bytes(before)
    there = set(tmp_path.iterdir())

    def full(_: dict, file: BinaryIO) -> None:
        file.write(b'a part')
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(DiskFullError, match=r'no room for .*epoch_1.pth: it needs 0.\d\d MB, and [\d,]+ MB are free'):
        runner.save_checkpoint(str(tmp_path), 'epoch_1.pth')
    assert set(tmp_path.iterdir()) == there
    assert before is None or (tmp_path / 'epoch_1.pth').read_bytes() == before
    monkeypatch.undo()
    runner.save_checkpoint(str(tmp_path), 'epoch_1.pth')
    assert read_run(tmp_path / 'epoch_1.pth')['meta']['epoch'] == 2  # counted from 1, as after the next epoch
    assert set(tmp_path.iterdir()) == there | {tmp_path / 'epoch_1.pth'}


# ---- what fits

def loading(work_dir: Path, model: dict = MODEL) -> Runner:
    return Runner.from_cfg(config(work_dir, model=model))


def test_weights_of_a_distributed_run_fit_too(tmp_path: Path, checkpoint: Path):
    path = changed(checkpoint, tmp_path / 'ddp.pth', lambda content: content.update(
        state_dict={f'module.{name}': value for name, value in content['state_dict'].items()}))
    runner = loading(tmp_path)
    runner.load_checkpoint(str(path))
    wanted = read_run(checkpoint)['state_dict']
    assert all(torch.equal(value, wanted[name]) for name, value in runner.model.state_dict().items())


@pytest.mark.parametrize(('change', 'says'), [
    (lambda content: content['state_dict'].pop('mae.encoder.norm.bias'),
     '1 in the model, not in the file: mae.encoder.norm.bias'),
    (lambda content: content['state_dict'].update(other=torch.zeros(1)), '1 in the file, not in the model: other'),
    (lambda content: content['state_dict'].update({'mae.encoder.norm.bias': torch.zeros(3)}),
     r'mae.encoder.norm.bias: \(3,\) in the file, \(16,\) in the model'),
    (lambda content: content.pop('meta'), 'holds no run of `mae-backbone train` or `mae-backbone pretrain`'),
    (lambda content: content.pop('state_dict'), 'holds no run'),
])
def test_mismatches_are_listed_and_nothing_is_loaded(tmp_path: Path, checkpoint: Path, change: Callable, says: str):
    runner = loading(tmp_path)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        runner.load_checkpoint(str(changed(checkpoint, tmp_path / 'other.pth', change)))
    assert all(torch.equal(value, before[name]) for name, value in runner.model.state_dict().items())


def test_weights_of_another_task_are_refused(tmp_path: Path, checkpoint: Path):
    runner = loading(tmp_path, dict(type='mae_backbone.ViTClassifier', backbone=ENCODER, num_classes=2,
                                    data_preprocessor=PREPROCESSOR))
    with pytest.raises(CheckpointError, match='does not fit the model of this config'):
        runner.load_checkpoint(str(checkpoint))


def test_feature_model_loads_encoder_of_any_run(tmp_path: Path, checkpoint: Path):
    runner = loading(tmp_path, dict(type='mae_backbone.ViTClassifier', backbone=ENCODER, num_classes=0,
                                    data_preprocessor=PREPROCESSOR))
    runner.load_checkpoint(str(checkpoint))
    wanted = read_run(checkpoint)['state_dict']
    assert all(torch.equal(value, wanted['mae.encoder.' + name.removeprefix('backbone.')])
               for name, value in runner.model.state_dict().items())


# ---- what runs code

@pytest.mark.parametrize('key', ['cfg', 'config'])
def test_config_in_checkpoint_is_not_executed(tmp_path: Path, checkpoint: Path, key: str):
    witness = tmp_path / 'ran'
    text = f'import os\nos.mkdir({str(witness)!r})\ndel os\n'
    path = changed(checkpoint, tmp_path / 'bad.pth', lambda content: content['meta'].update({key: text}))
    resumed = trained(tmp_path, epochs=2, load_from=str(path), resume=True)
    assert resumed.epoch == 2
    assert not witness.exists()
    Config.fromstring(text, '.py')
    assert witness.exists()  # as MMEngine would have done


class Call:
    """Calls a function where pickle rebuilds it."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __call__(self) -> None:
        """pickle wants a function that can be called."""

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize('where', ['meta', 'message_hub', 'optimizer', 'state_dict'])
def test_run_with_function_call_is_refused(tmp_path: Path, checkpoint: Path, where: str):
    witness = tmp_path / 'ran'
    path = changed(checkpoint, tmp_path / 'bad.pth',
                   lambda content: content[where].update(bad=Call(os.mkdir, str(witness))))
    with pytest.raises(CheckpointError, match=r'names code to run \([\w.]+\), which this program refuses'):
        read_run(path)
    assert not witness.exists()


@pytest.mark.parametrize('call', [
    Call(getattr, HistoryBuffer, '__init__'), Call(getattr, HistoryBuffer, '_set_default_statistics'),
    Call(getattr, slice, 'indices'), Call(getattr, argparse.Namespace, '_get_kwargs'),
    Call(Call(getattr, HistoryBuffer, 'register_statistics'), print),
], ids=range(5))
def test_getattr_in_run_is_refused(tmp_path: Path, checkpoint: Path, call: Call):
    path = changed(checkpoint, tmp_path / 'bad.pth', lambda content: content['meta'].update(bad=call))
    with pytest.raises(CheckpointError):
        read_run(path)


# ---- what is said

def test_building_is_silent_and_training_logs(tmp_path: Path, capsys: pytest.CaptureFixture):
    torch.save(ViT(**ENCODER | dict(image_size=32)).state_dict(), tmp_path / 'encoder.pth')
    model = dict(type='mae_backbone.ViTClassifier', num_classes=2, data_preprocessor=PREPROCESSOR,
                 backbone=ENCODER | dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'encoder.pth'))))
    runner = Runner.quietly_from_cfg(config(tmp_path, model=model))
    assert capsys.readouterr().out == ''
    runner.train()
    said = capsys.readouterr().out
    log = next(tmp_path.glob('*/*.log')).read_text('utf-8')
    assert 'EightFixedImages' in log
    assert 'EightFixedImages' not in said.replace('Dataset EightFixedImages has no metainfo', '')
    for line in ('pos_embed from 4x4 to 2x2 patches', 'Epoch(train)'):
        assert line in said
        assert line in log


def test_the_log_file_holds_names_that_the_locale_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.FileHandler, '_open', lambda handler: io.TextIOWrapper(
        io.FileIO(handler.baseFilename, handler.mode), encoding='ascii'))
    runner = Runner.quietly_from_cfg(config(tmp_path))
    runner.logger.info('größe')
    assert 'größe' in next(tmp_path.glob('*/*.log')).read_text('utf-8')


def test_none_switches_off_any_hook(tmp_path: Path):
    """MMEngine itself takes None only for its own hooks."""
    ours = ('PreemptionHook', 'HealthHook', 'GuardHook')
    hooks = dict(health=dict(type='mae_backbone.HealthHook', images=4))
    kept = Runner.from_cfg(config(tmp_path / 'on', default_hooks=hooks))
    assert {type(hook).__name__ for hook in kept.hooks} >= {*ours, 'RunLoggerHook'}
    off = Runner.from_cfg(config(tmp_path / 'off', default_hooks=dict(health=None, preemption=None, guard=None,
                                                                      logger=None)))
    assert not {type(hook).__name__ for hook in off.hooks} & {*ours, 'RunLoggerHook'}


def test_options_of_hooks_need_no_type(tmp_path: Path):
    runner = Runner.from_cfg(config(tmp_path, default_hooks=dict(preemption=dict(grace=60.0), guard=dict(patience=9))))
    options = {type(hook).__name__: vars(hook) for hook in runner.hooks}
    assert (options['PreemptionHook']['grace'], options['GuardHook']['patience']) == (60.0, 9)


def test_runners_of_mmdet_and_mmseg_show_the_report_of_loaded_weights(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Their tools/train.py use MMEngine's Runner, which leaves the logger of this package alone."""
    forget_instances()  # a run of ours in this process has given it handlers
    torch.save(ViT(**ENCODER).state_dict(), tmp_path / 'encoder.pth')
    model = dict(type='mae_backbone.ViTClassifier', num_classes=2, data_preprocessor=PREPROCESSOR,
                 backbone=ENCODER | dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'encoder.pth'))))
    mmengine.runner.Runner.from_cfg(config(tmp_path, model=model)).train()
    line = f'weights from {tmp_path / "encoder.pth"}'
    assert line in capsys.readouterr().out
    assert line in next(tmp_path.glob('*/*.log')).read_text('utf-8')
