"""Start of distributed runs on CPUs, which MMEngine starts only on GPUs, and options of DistributedDataParallel."""
import datetime
import inspect
import os
import subprocess

from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


def init_on_cpus(launcher: str, *, backend: str = 'gloo', timeout: float | None = None, **_: object) -> None:
    """Joins a run of several processes on CPUs, as described by the environment that torchrun or Slurm sets.

    Args:
        launcher: 'pytorch' or 'slurm'.
        backend: of torch.distributed; nccl is replaced by gloo.
        timeout: of a collective operation, in seconds.

    Raises:
        ValueError: another launcher.
    """
    if launcher == 'slurm':
        _set_environment_from_slurm()
    elif launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} on CPUs: start the run with torchrun and --launcher pytorch, or with '
                         'srun and --launcher slurm')
    dist.init_process_group('gloo' if backend == 'nccl' else backend,
                            timeout=None if timeout is None else datetime.timedelta(seconds=timeout))


def without_buffer_sync() -> dict[str, bool]:
    """Option of DistributedDataParallel that lets each process keep its buffers between steps, as MMEngine does.

    torch 2.13 renamed it and warns of the old name.
    """
    names = inspect.signature(DistributedDataParallel.__init__).parameters
    return {'forward_sync_buffers' if 'forward_sync_buffers' in names else 'broadcast_buffers': False}


def _set_environment_from_slurm() -> None:
    """Sets torch's environment variables from Slurm's, with the same names and defaults as MMEngine."""
    environment = os.environ
    if 'MASTER_ADDR' not in environment:
        hosts = subprocess.run(['scontrol', 'show', 'hostname', environment['SLURM_NODELIST']], check=True, text=True,
                               capture_output=True).stdout
        environment['MASTER_ADDR'] = hosts.split()[0]
    environment.setdefault('MASTER_PORT', '29500')
    environment.update(RANK=environment['SLURM_PROCID'], WORLD_SIZE=environment['SLURM_NTASKS'],
                       LOCAL_RANK=environment.get('SLURM_LOCALID', '0'))
