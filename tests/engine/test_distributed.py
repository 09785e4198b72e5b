"""Several processes train as one does: the same losses, the same checkpoints, and one end."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.driven_runs import drive
from helpers.micro_runs import free_port, write_images
from torch import distributed as dist

from mae_backbone.checkpoints.run_files import resume_path
from mae_backbone.engine.distributed import init_on_cpus

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# 23 images, 12 a step: the second step of each epoch has 11, which two processes cannot share evenly.
PLAIN = {'iterations': 8, 'save_every': 4, 'model.encoder.drop_path_rate': 0.0}
SHARDED = PLAIN | {'model_wrapper_cfg': dict(type='mae_backbone.FullyShard')}
ACCUMULATED = PLAIN | {'accumulate': 2}
DECAYED = {'optim_wrapper.paramwise_cfg': dict(layer_decay=0.7, norm_decay_mult=0.0), 'optim_wrapper.clip_grad':
           dict(max_norm=0.5)}


def run(name: str, world: int, options: dict, **more: object) -> dict:
    return dict(name=name, world=world, options=options, **more)


def test_two_processes_have_the_losses_of_one(tmp_path: Path):
    one, two, accumulated, both, sharded, sharded_both = drive('ranks', tmp_path, runs=[
        run('one', 1, PLAIN), run('two', 2, PLAIN), run('accumulated', 1, ACCUMULATED), run('both', 2, ACCUMULATED),
        run('sharded', 2, SHARDED), run('sharded_both', 2, SHARDED | ACCUMULATED)])
    for answer in (one, two, accumulated, both, sharded, sharded_both):
        assert set(answer['codes']) == {0}, [path.read_text()[-2000:] for path in tmp_path.glob('*.[01]')]
        assert len(answer['losses']) == 8
    assert one['losses'][3] != pytest.approx(accumulated['losses'][3], abs=1e-5)
    for answer in (two, sharded):
        assert answer['losses'] == pytest.approx(one['losses'], abs=1e-5)
    for answer in (both, sharded_both):
        assert answer['losses'] == pytest.approx(accumulated['losses'], abs=1e-5)


def test_a_sharded_run_goes_on_in_any_number_of_processes(tmp_path: Path):
    sharded, plain = SHARDED | DECAYED, PLAIN | DECAYED
    answers = drive('ranks', tmp_path, runs=[
        run('one', 1, plain),
        run('a', 2, sharded, until=3), run('a', 1, plain, until=5), run('a', 2, plain, until=6), run('a', 2, sharded)])
    assert all(set(answer['codes']) == {0} for answer in answers), [path.read_text()[-2000:]
                                                                    for path in tmp_path.glob('a.*')]
    assert answers[-1]['losses'] == pytest.approx(answers[0]['losses'], abs=1e-5)


def test_a_signal_to_one_process_stops_all_after_the_same_iteration(tmp_path: Path):
    many = PLAIN | {'iterations': 400, 'save_every': 4}
    stopped, = drive('ranks', tmp_path, runs=[run('a', 2, many, signal=signal.SIGUSR1)])
    assert stopped['codes'] == [128 + signal.SIGUSR1] * 2, [path.read_text()[-2000:] for path in tmp_path.glob('a.*')]
    assert stopped['seconds'] < 30
    said = (tmp_path / 'a.0').read_text()
    saved = re.search(r'SIGUSR1: iteration (\d+) of 400 saved', said)
    assert len(stopped['losses']) == int(saved[1])


def test_two_agents_of_torchrun_train_and_a_killed_process_ends_all_with_one_line(tmp_path: Path):
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
    assert 'effective batch 8 = 4 a process x 2 processes' in ''.join(said)
    assert resume_path('auto', tmp_path / 'run') is not None


def test_slurm_tells_by_its_environment(monkeypatch: pytest.MonkeyPatch):
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
