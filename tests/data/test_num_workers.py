"""num_workers='auto' becomes a number that CPUs and memory allow, the same in every process."""
import pytest
from mmengine.config import ConfigDict

from mae_backbone.data import num_workers
from mae_backbone.data.num_workers import LoaderOptions, Machine, batch_bytes, loader_options, resolve_num_workers
from mae_backbone.utils import cpu, memory

BATCH = 64 * 224 * 224 * 3


def test_gpu_gets_all_cpus_but_one():
    assert loader_options(Machine(32, 2**37), BATCH, gpu=True) == LoaderOptions(31, 2, True)
    assert loader_options(Machine(2, 2**37), BATCH, gpu=True) == LoaderOptions(1, 4, True)


def test_cpu_training_keeps_most_cpus():
    assert loader_options(Machine(32, 2**37), BATCH, gpu=False) == LoaderOptions(8, 2, False)
    assert loader_options(Machine(2, 2**37), BATCH, gpu=False) == LoaderOptions(1, 4, False)


def test_memory_limits_workers_and_prefetching():
    shared = 64 * 2**20  # that containers have by default
    options = loader_options(Machine(32, shared), BATCH, gpu=True)
    assert options.num_workers * options.prefetch_factor * BATCH <= shared
    assert min(options[:2]) >= 1
    assert loader_options(Machine(32, 0), BATCH, gpu=True)[:2] == (1, 1)


def test_machine_is_divided_by_its_processes_and_container(monkeypatch: pytest.MonkeyPatch):
    files = {'/sys/fs/cgroup/cpu.max': '250000 100000\n', '/proc/meminfo': 'MemTotal: 9 kB\nMemAvailable: 4096 kB\n',
             '/sys/fs/cgroup/memory.max': '3000000\n', '/sys/fs/cgroup/memory.current': '1000000\n'}
    for module in (memory, cpu):
        monkeypatch.setattr(module, 'read_system_file', lambda path: files.get(path, ''))
    monkeypatch.setattr(cpu.os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)
    assert num_workers.available_cpus() == 2
    files['/sys/fs/cgroup/cpu.max'] = 'max 100000\n'
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    assert Machine.per_process().cpus == 4
    assert Machine.per_process().memory <= 500_000


@pytest.mark.parametrize(('options', 'wanted'), [
    (dict(dataset=dict(image_size=224)), 224 * 224 * 3),
    (dict(dataset=dict(image_size=(32, 64), reader=dict(channels=[3, 2, 1, 0], dtype='uint16'))), 32 * 64 * 4 * 2),
    (dict(dataset=dict(image_size=224, reader=None), batch_sampler=dict(image_sizes=[(0, 160), (9, (256, 128))])),
     224 * 224 * 3),
    (dict(dataset=dict(type='CocoDataset')), 1024 * 1024 * 3),
])
def test_size_of_a_batch_comes_from_the_config(options: dict, wanted: int):
    assert batch_bytes(ConfigDict(batch_size=2, **options)) == 2 * wanted


def test_auto_becomes_numbers():
    loader = ConfigDict(num_workers='auto', batch_size=2, dataset=dict(image_size=16))
    line = resolve_num_workers(loader)
    assert loader.num_workers >= 1
    assert loader.prefetch_factor >= 1
    assert loader.persistent_workers
    assert not loader.pin_memory
    assert f'loader: {loader.num_workers} workers' in line


def test_number_is_kept():
    loader = ConfigDict(num_workers=3)
    assert resolve_num_workers(loader) == 'loader: 3 workers, set by the config'
    assert loader == dict(num_workers=3)


@pytest.mark.parametrize('text', ['', 'garbage'])
def test_other_systems_have_defaults(monkeypatch: pytest.MonkeyPatch, text: str):
    for module in (memory, cpu):
        monkeypatch.setattr(module, 'read_system_file', lambda _: text)
    assert num_workers.available_cpus() >= 1
    assert num_workers.free_memory() >= 0
