"""The loader gets as many workers as a step needs and the machine has, and the training does not notice."""
import pytest
import torch
from helpers.image_files import save
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from mae_backbone.data import num_workers
from mae_backbone.data.num_workers import Choice, Machine, choose, tune
from mae_backbone.utils import cpu, device_scalars

BATCH = 64 * 224 * 224 * 3
LARGE = Machine(processors=32, memory=2**37)


def test_workers_are_what_a_step_needs_with_room():
    assert choose(300, 1000, BATCH, LARGE, pin=True) == Choice(5, 2, True)
    assert choose(300, 10, BATCH, LARGE, pin=False) == Choice(1, 4, False)
    assert choose(300, 1e6, BATCH, LARGE, pin=True).num_workers == 31


def test_processors_and_memory_bound_them():
    assert choose(300, 1e6, BATCH, Machine(1, 2**37), pin=True).num_workers == 1
    small = Machine(32, 64 * 2**20)  # the shared memory that containers have by default
    choice = choose(300, 1e6, BATCH, small, pin=True)
    assert choice.num_workers * choice.prefetch_factor * BATCH <= 64 * 2**20
    assert min(choice[:2]) >= 1
    assert choose(300, 1e6, BATCH, Machine(32, 0), pin=True)[:2] == (1, 1)


def test_the_share_of_a_process_is_that_of_its_container_and_neighbors(monkeypatch):
    files = {'/sys/fs/cgroup/cpu.max': '250000 100000\n', '/proc/meminfo': 'MemTotal: 9 kB\nMemAvailable: 4096 kB\n',
             '/sys/fs/cgroup/memory.max': '3000000\n', '/sys/fs/cgroup/memory.current': '1000000\n'}
    for module in (num_workers, cpu):
        monkeypatch.setattr(module, 'system_file', lambda path: files.get(path, ''))
    monkeypatch.setattr(cpu.os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)
    assert num_workers.available_processors() == 2
    files['/sys/fs/cgroup/cpu.max'] = 'max 100000\n'
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    assert Machine.own_share().processors == 4
    assert Machine.own_share().memory <= 500_000


def loader(folder, **options) -> ConfigDict:
    for i in range(5):
        save(folder / f'{i}.jpg')
    return ConfigDict(num_workers='auto', batch_size=2, dataset=dict(
        type='mae_backbone.UnlabeledImages', data_root=str(folder), image_size=16), **options)


def model() -> torch.nn.Module:
    return MODELS.build(dict(
        type='mae_backbone.MAEPretrainer', decoder_width=8, decoder_depth=1, decoder_heads=1,
        encoder=dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=4),
        data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)))


def test_auto_becomes_numbers_and_nothing_else_changes(tmp_path):
    cfg, mae = loader(tmp_path), model()
    before = {name: value.clone() for name, value in mae.state_dict().items()}
    state, mode = torch.get_rng_state(), mae.training
    line = tune(cfg, mae, seconds=0.1)
    assert torch.get_rng_state().equal(state)
    assert mae.training == mode
    assert all(value.equal(before[name]) for name, value in mae.state_dict().items())
    assert all(p.grad is None for p in mae.parameters())
    assert device_scalars.drain() == {}
    assert cfg.num_workers >= 1
    assert cfg.prefetch_factor >= 1
    assert cfg.persistent_workers
    assert not cfg.pin_memory
    assert f'loader: {cfg.num_workers} workers' in line
    assert 'images/s' in line


def test_a_number_stays_as_it_is(tmp_path):
    cfg = ConfigDict(num_workers=3)
    assert tune(cfg, torch.nn.Identity()) == 'loader: 3 workers, as the config says'
    assert cfg == dict(num_workers=3)


def test_a_loader_that_limits_is_announced(tmp_path, monkeypatch):
    monkeypatch.setattr(num_workers, 'loading_rate', lambda *_: 10.0)
    monkeypatch.setattr(num_workers, 'step_rate', lambda *_: 1e6)
    assert 'the loader will be what limits: pack the images with tools/pack.py' in tune(loader(tmp_path), model())


@pytest.mark.parametrize('text', ['', 'garbage'])
def test_other_systems_have_other_files(monkeypatch, text):
    for module in (num_workers, cpu):
        monkeypatch.setattr(module, 'system_file', lambda _: text)
    assert num_workers.available_processors() >= 1
    assert num_workers.free_memory() >= 0
