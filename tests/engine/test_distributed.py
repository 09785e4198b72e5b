"""Several processes have the losses and checkpoints of one, and end together."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.driven_runs import drive
from helpers.micro_runs import free_port, write_images
from torch import Tensor
from torch import distributed as dist
from torch.testing import assert_close

from mae_backbone.checkpoints.run_files import read_run, resume_path
from mae_backbone.core.vit import ViT
from mae_backbone.engine.distributed import init_on_cpus

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# 23 images, 12 a step: the second step of each epoch has 11, which two processes cannot share evenly.
PLAIN = {'iterations': 8, 'save_every': 4, 'model.encoder.drop_path_rate': 0.0}
SHARDED = PLAIN | {'model_wrapper_cfg': dict(type='mae_backbone.FullyShard')}
COMPILED = {'compile': dict(backend='aot_eager')}
ACCUMULATED = PLAIN | {'accumulate': 2}
DECAYED = {'optim_wrapper.paramwise_cfg': dict(layer_decay=0.7, norm_decay_mult=0.0), 'optim_wrapper.clip_grad':
           dict(max_norm=0.5)}

AMP = PLAIN | {'optim_wrapper.dtype': 'bfloat16'}
FROZEN = {'model.freeze_encoder_iters': 4}
TEACHER = dict(arch=dict(width=32, depth=2, heads=4), image_size=16, patch_size=4)
TAUGHT = {'model.teacher': dict(checkpoint='teacher.pth', encoder=TEACHER)}


def run(name: str, world: int, options: dict, **more: object) -> dict:
    return dict(name=name, world=world, options=options, **more)


RUNS = {
    'one': run('one', 1, PLAIN), 'two': run('two', 2, PLAIN), 'accumulated': run('accumulated', 1, ACCUMULATED),
    'both': run('both', 2, ACCUMULATED), 'sharded': run('sharded', 2, SHARDED),
    'sharded_both': run('sharded_both', 2, SHARDED | ACCUMULATED),
    'compiled': run('compiled', 2, PLAIN | COMPILED),
    'compiled_sharded': run('compiled_sharded', 2, SHARDED | COMPILED),
    'amp': run('amp', 1, AMP), 'amp_both': run('amp_both', 2, AMP),
    'decayed': run('decayed', 1, PLAIN | DECAYED),
    # Only the decoder in the first 4 steps: the encoder has no gradients, for which DistributedDataParallel would wait.
    'frozen_1': run('frozen_1', 1, PLAIN | FROZEN), 'frozen_2': run('frozen_2', 2, PLAIN | FROZEN),
    'frozen_sharded': run('frozen_sharded', 2, SHARDED | FROZEN),
    'taught_1': run('taught_1', 1, PLAIN | TAUGHT), 'taught_2': run('taught_2', 2, PLAIN | TAUGHT),
    'taught_sharded': run('taught_sharded', 2, SHARDED | TAUGHT),
    # One run, continued by other numbers of processes, sharded or not.
    'resumed_1': run('resumed', 2, SHARDED | DECAYED, until=3),
    'resumed_2': run('resumed', 1, PLAIN | DECAYED, until=5),
    'resumed_3': run('resumed', 2, PLAIN | DECAYED, until=6), 'resumed_4': run('resumed', 2, SHARDED | DECAYED),
    'stopped': run('stopped', 2, PLAIN | {'iterations': 400, 'save_every': 4}, signal=signal.SIGUSR1)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('ranks')


@pytest.fixture(scope='module')
def results(folder: Path) -> dict[str, dict]:
    """Exit codes and losses of all runs."""
    torch.save(ViT(**TEACHER).state_dict(), folder / 'teacher.pth')
    TAUGHT['model.teacher']['checkpoint'] = str(folder / 'teacher.pth')
    return dict(zip(RUNS, drive('ranks', folder, runs=list(RUNS.values())), strict=True))


def test_two_processes_have_the_losses_of_one(results: dict[str, dict]):
    one, accumulated = results['one'], results['accumulated']
    for name in ('one', 'two', 'accumulated', 'both', 'sharded', 'sharded_both', 'compiled', 'compiled_sharded'):
        assert set(results[name]['codes']) == {0}
        assert len(results[name]['losses']) == 8
    assert one['losses'][3] != pytest.approx(accumulated['losses'][3], abs=1e-5)
    for name in ('two', 'sharded', 'compiled', 'compiled_sharded'):
        assert results[name]['losses'] == pytest.approx(one['losses'], abs=1e-5)
    for name in ('both', 'sharded_both'):
        assert results[name]['losses'] == pytest.approx(accumulated['losses'], abs=1e-5)


def test_two_processes_in_bfloat16(results: dict[str, dict]):
    """A product of 12 images is rounded otherwise than two of 6."""
    one, two = results['amp'], results['amp_both']
    assert two['losses'] == pytest.approx(one['losses'], abs=5e-3)
    assert two['losses'] != pytest.approx(results['two']['losses'], abs=1e-5)


def test_parts_are_compiled_in_each_process(results: dict[str, dict], folder: Path):
    for name in ('compiled', 'compiled_sharded'):
        said = (folder / f'{name}.0').read_text()
        assert 'torch.compile: on' in said
        assert 'runs without it' not in said


@pytest.mark.parametrize('kind', ['frozen', 'taught'])
def test_frozen_encoders_and_teachers_have_the_losses_of_one_process(results: dict[str, dict], kind: str):
    one = results[f'{kind}_1']
    assert len(one['losses']) == 8
    assert one['losses'][3] != pytest.approx(results['one']['losses'][3], abs=1e-5)
    for name in (f'{kind}_2', f'{kind}_sharded'):
        assert set(results[name]['codes']) == {0}
        assert results[name]['losses'] == pytest.approx(one['losses'], abs=1e-5)


def test_checkpoints_of_sharded_and_whole_runs_are_alike(results: dict[str, dict], folder: Path):
    """Names, shapes and devices are equal; numbers differ by the order of sums."""
    whole, sharded = (read_run(folder / name / 'iter_8.pth') for name in ('two', 'sharded'))
    assert list(whole['state_dict']) == list(sharded['state_dict'])
    for name, value in whole['state_dict'].items():
        assert type(sharded['state_dict'][name]) is Tensor
        assert_close(sharded['state_dict'][name], value, rtol=1e-3, atol=1e-4)
    states = [content['optimizer']['state'] for content in (whole, sharded)]
    assert states[0].keys() == states[1].keys()
    for number, values in states[0].items():
        for name, value in values.items():
            assert_close(states[1][number][name], value, rtol=1e-2, atol=1e-4)
    assert whole['optimizer']['param_groups'] == sharded['optimizer']['param_groups']


def test_a_sharded_run_continues_in_any_number_of_processes(results: dict[str, dict]):
    assert all(set(results[f'resumed_{i}']['codes']) == {0} for i in (1, 2, 3, 4))
    assert results['resumed_4']['losses'] == pytest.approx(results['decayed']['losses'], abs=1e-5)


def test_a_signal_to_one_process_stops_all_after_the_same_iteration(results: dict[str, dict], folder: Path):
    stopped = results['stopped']
    assert stopped['codes'] == [128 + signal.SIGUSR1] * 2
    assert stopped['seconds'] < 30
    saved = re.search(r'SIGUSR1: iteration (\d+) of 400 saved', (folder / 'stopped.0').read_text())
    assert len(stopped['losses']) == int(saved[1])


def test_killed_process_ends_two_torchrun_agents_with_one_line(tmp_path: Path):
    write_images(tmp_path / 'images', 40)
    rendezvous = f'127.0.0.1:{free_port()}'
    options = ('train_cfg.max_iters=100000', 'default_hooks.checkpoint.interval=10', 'train_dataloader.batch_size=4',
               'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False')
    agents = [subprocess.Popen(
        [sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2', '--nproc_per_node', '1', '--max-restarts', '0',
         '--rdzv-backend', 'c10d', '--rdzv-endpoint', rendezvous, '--rdzv-id', 'test', str(ROOT / 'tools/pretrain.py'),
         str(ROOT / 'configs/demo/quickstart_mae.py'), '--launcher', 'pytorch', '--data-root', str(tmp_path / 'images'),
         '--work-dir', str(tmp_path / 'run'), '--resume', '--cfg-options', *options], text=True, cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)]
    until = time.monotonic() + 120
    while not (tmp_path / 'run' / 'last_checkpoint').exists() and time.monotonic() < until:
        time.sleep(0.1)
    worker = int(Path(f'/proc/{agents[1].pid}/task/{agents[1].pid}/children').read_text().split()[0])
    began = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    said = [agent.communicate(timeout=60)[0] for agent in agents]
    assert time.monotonic() - began < 30
    assert all(agent.returncode != 0 for agent in agents)
    lines = [line for line in said[0].splitlines() if 'another process of this run has ended' in line]
    assert len(lines) == 1, said[0][-3000:]
    assert lines[0].startswith('error: process ')
    assert 'effective batch 8 = 4 per process x 2 processes' in ''.join(said)
    assert resume_path('auto', tmp_path / 'run') is not None


def test_slurm_environment_is_read(monkeypatch: pytest.MonkeyPatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, '')  # so that it is removed again
        monkeypatch.delenv(name)
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    for name, value in (('SLURM_PROCID', '0'), ('SLURM_NTASKS', '1'), ('SLURM_LOCALID', '0')):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_PORT', str(free_port()))
    init_on_cpus('slurm')
    try:
        assert (dist.get_backend(), dist.get_world_size()) == ('gloo', 1)
        assert (os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['LOCAL_RANK']) == ('0', '1', '0')
    finally:
        dist.destroy_process_group()
    with pytest.raises(ValueError, match='start the run with torchrun'):
        init_on_cpus('mpi')
