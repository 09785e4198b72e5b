"""The command line under Slurm: processes that srun starts, without a cluster."""
import os
import stat
from pathlib import Path

import pytest
from helpers.driven_runs import answer
from helpers.micro_runs import free_port, write_images

from mae_backbone.checkpoints.run_files import read_run, resume_path

NODES, JOB, TASKS = 'node[07-08]', '4711', 2
OPTIONS = ('train_dataloader.batch_size=4', 'train_dataloader.num_workers=0',
           'train_dataloader.persistent_workers=False', 'custom_hooks=[]', 'default_hooks.plots=None')


def environment(task: int, bin_folder: Path, port: int) -> dict[str, str]:
    """The environment of a task of srun with one task on each of two nodes, and of no other launcher."""
    foreign = ('SLURM_', 'MASTER_', 'OMPI_', 'RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    slurm = dict(JOB_ID=JOB, STEP_ID='0', JOB_NODELIST=NODES, NODELIST=NODES, STEP_NODELIST=NODES, NNODES='2',
                 JOB_NUM_NODES='2', NTASKS=str(TASKS), NPROCS=str(TASKS), STEP_NUM_TASKS=str(TASKS),
                 TASKS_PER_NODE='1(x2)', NTASKS_PER_NODE='1', CPUS_PER_TASK='1', PROCID=str(task), LOCALID='0',
                 NODEID=str(task), GTIDS=str(task), TASK_PID='1', LAUNCH_NODE_IPADDR='127.0.0.1')
    return plain | {f'SLURM_{name}': value for name, value in slurm.items()} | {
        'PATH': f'{bin_folder}{os.pathsep}{plain["PATH"]}', 'MASTER_PORT': str(port), 'OMP_NUM_THREADS': '1'}


def write_scontrol(folder: Path) -> None:
    """Slurm's program that expands a list of nodes. All of them are this machine."""
    folder.mkdir()
    program = folder / 'scontrol'
    program.write_text(f'#!/bin/sh\n[ "$*" = "show hostname {NODES}" ] || exit 1\necho 127.0.0.1\necho 127.0.0.1\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == 'nt', reason='Slurm runs on POSIX systems')
def test_two_tasks_train_one_model(tmp_path: Path):
    write_images(tmp_path / 'images', 24)
    write_scontrol(tmp_path / 'bin')
    arguments = ['pretrain', 'quickstart_mae', '--launcher', 'slurm', '--iters', '4', '--data-root',
                 str(tmp_path / 'images'), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *OPTIONS]
    port = free_port()
    tasks = [dict(arguments=arguments, environment=environment(task, tmp_path / 'bin', port)) for task in range(TASKS)]
    results = answer('helpers.forked_commands', tasks)
    first, second = (result['text'] for result in results)
    assert [result['code'] for result in results] == [0, 0], first[-3000:] + second[-3000:]
    assert 'effective batch 8 = 4 per process x 2 processes' in first
    assert 'Iter(train) [4/4]' in first
    assert 'effective batch' not in second  # process 0 prints
    assert 'Iter(train)' not in second
    assert 'FutureWarning' not in first + second
    checkpoint = read_run(resume_path('auto', tmp_path / 'run'))
    assert checkpoint['meta']['iter'] == 4
    assert len(list((tmp_path / 'run').glob('*/*.log'))) == 1
