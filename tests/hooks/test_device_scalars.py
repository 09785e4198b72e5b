"""Scalars recorded on the device all reach the message hub in order, without waiting in between."""
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.hooks.device_scalars import DeviceLogHook
from mae_backbone.utils import device_scalars

COUNT = itertools.count()


def test_recorded_values_are_drained_once_in_order():
    device_scalars.drain()
    for step in range(3):
        device_scalars.record('loss', torch.tensor(step + 0.5, requires_grad=True) * 1)
        device_scalars.record('grad_norm', torch.tensor([float(step)]))
    assert device_scalars.drain() == {'loss': [0.5, 1.5, 2.5], 'grad_norm': [0.0, 1.0, 2.0]}
    assert device_scalars.drain() == {}


def test_values_are_copied_when_recorded():
    value = torch.zeros(())
    device_scalars.record('norm', value)
    value.fill_(7)
    assert device_scalars.drain() == {'norm': [0.0]}


def test_infinity_and_bfloat16_are_kept():
    device_scalars.record('loss', torch.tensor(float('inf')))
    device_scalars.record('loss', torch.tensor(1.5, dtype=torch.bfloat16))
    assert device_scalars.drain() == {'loss': [float('inf'), 1.5]}


def test_values_are_not_read_before_the_drain():
    with torch.device('meta'):  # without values: `.item()` raises
        device_scalars.record('loss', torch.zeros(()))
    with pytest.raises(RuntimeError):
        device_scalars.drain()
    assert device_scalars.drain() == {}


def test_tensor_of_several_elements_raises():
    with pytest.raises(ValueError, match=r'loss has shape \(4,\)'):
        device_scalars.record('loss', torch.zeros(4))


def test_memory_is_bounded_without_drain():
    for step in range(device_scalars.LIMIT + 5):
        device_scalars.record('loss', torch.tensor(float(step)))
    values = device_scalars.drain()['loss']
    assert (len(values), values[0]) == (device_scalars.LIMIT, 5.0)


def test_mean_over_processes_is_recorded(tmp_path: Path):
    code = f'''
import sys, torch
from torch import distributed as dist
from mae_backbone.utils import device_scalars
rank = int(sys.argv[1])
dist.init_process_group('gloo', init_method='file://{tmp_path}/store', rank=rank, world_size=2)
for step in range(3):
    device_scalars.record('loss', torch.tensor(float(10 * step + rank)), mean=True)
    device_scalars.record('own', torch.tensor(float(rank)))
print(device_scalars.drain())
dist.destroy_process_group()
'''
    started = [subprocess.Popen([sys.executable, '-c', code, str(rank)], stdout=subprocess.PIPE, text=True)
               for rank in (0, 1)]
    for rank, process in enumerate(started):
        out, _ = process.communicate(timeout=60)
        assert out.strip() == str({'loss': [0.5, 10.5, 20.5], 'own': [float(rank)] * 3})


class Recording(BaseModel):
    """A model whose loss is the number of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.steps = 0

    def forward(self, inputs: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        self.steps += 1
        return {'loss': self.weight * 0 + self.steps}

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict]:
        device_scalars.record('loss', losses['loss'], mean=True)
        return losses['loss'], {}


def runner(work_dir: Path, *, interval: int, train_cfg: dict, save_every: int) -> Runner:
    by_epoch = train_cfg['by_epoch']
    return Runner(
        Recording(), str(work_dir), experiment_name=f'device-log-{next(COUNT)}', train_cfg=train_cfg,
        train_dataloader=dict(dataset=[dict(inputs=torch.zeros(1)) for _ in range(7)], batch_size=1,
                              sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler'),
                              collate_fn=dict(type='default_collate')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), log_processor=dict(by_epoch=by_epoch, window_size=1),
        custom_hooks=[dict(type='mae_backbone.DeviceLogHook')],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=interval),
                           checkpoint=dict(type='CheckpointHook', interval=save_every, by_epoch=by_epoch)))


def losses(history: dict) -> list[float]:
    return history['train/loss'].data[0].tolist()


@pytest.mark.parametrize('train_cfg', [dict(by_epoch=True, max_epochs=2), dict(by_epoch=False, max_iters=14)])
def test_all_losses_reach_the_message_hub(tmp_path: Path, train_cfg: dict):
    run = runner(tmp_path, interval=4, train_cfg=train_cfg, save_every=100)
    run.train()
    assert losses(run.message_hub.log_scalars) == [float(i) for i in range(1, 15)]


def test_log_line_shows_the_loss_of_its_step(tmp_path: Path):
    run = runner(tmp_path, interval=4, train_cfg=dict(by_epoch=False, max_iters=8), save_every=100)
    run.train()
    lines = [line for line in next(tmp_path.glob('*/*.log')).read_text().splitlines() if 'Iter(train)' in line]
    assert [line.split('loss: ')[1][:6] for line in lines] == ['4.0000', '8.0000']


def test_checkpoint_between_log_lines_has_all_losses(tmp_path: Path):
    run = runner(tmp_path, interval=100, train_cfg=dict(by_epoch=False, max_iters=8), save_every=3)
    run.train()
    for step in (3, 6):
        history = read_run(tmp_path / f'iter_{step}.pth')['message_hub']['log_scalars']
        assert losses(history) == [float(i) for i in range(1, step + 1)]


def test_values_of_an_earlier_run_are_discarded(tmp_path: Path):
    device_scalars.record('loss', torch.tensor(99.0))
    run = runner(tmp_path, interval=100, train_cfg=dict(by_epoch=False, max_iters=2), save_every=100)
    run.train()
    assert losses(run.message_hub.log_scalars) == [1.0, 2.0]


def test_waiting_for_the_device_counts_as_step_time():
    from mmengine.hooks import IterTimerHook, LoggerHook
    from mmengine.runner import get_priority
    assert get_priority(DeviceLogHook.priority) < get_priority(IterTimerHook.priority)
    assert get_priority(DeviceLogHook.priority) < get_priority(LoggerHook.priority)


class TwoLosses(BaseModel):
    """Returns several values for the log, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        out = self.layer(torch.stack(inputs) if isinstance(inputs, list) else inputs)
        return dict(loss_box=out.square().mean(), loss_mask=[out.abs().mean(), out.mean()], accuracy=out.detach().sum())


def losses_of(work_dir: Path, **hooks: dict | None) -> tuple[dict[str, list[float]], int]:
    """What a short training logs, and how often a value was read from the device during it."""
    from mae_backbone.engine.runner import Runner as OurRunner
    torch.manual_seed(0)
    run = OurRunner(
        TwoLosses(), str(work_dir), experiment_name=f'two-{next(COUNT)}', randomness=dict(seed=0),
        train_dataloader=dict(dataset=[dict(inputs=torch.tensor([float(i), 1.0])) for i in range(8)], batch_size=2,
                              sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(by_epoch=False, max_iters=6), optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=3), checkpoint=None, **hooks),
        log_processor=dict(by_epoch=False))
    reads, item = [], Tensor.item
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, 'item', lambda tensor: reads.append(tensor) or item(tensor))
        run.train()
    scalars = run.message_hub.log_scalars
    names = ('loss', 'loss_box', 'loss_mask', 'accuracy')
    return {name: scalars[f'train/{name}'].data[0].tolist() for name in names}, len(reads)


def test_losses_of_detectors_are_logged_bit_for_bit_without_reading_them_in_every_step(tmp_path: Path):
    ours, reads = losses_of(tmp_path / 'ours')
    plain, reads_of_mmengine = losses_of(tmp_path / 'plain', device_log=None, guard=None)
    assert ours == plain
    assert len(ours['loss']) == 6
    assert reads < 3, 'not in every step'
    assert reads_of_mmengine >= 6 * 4
