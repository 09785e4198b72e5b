"""CPUs of this process: their number, threads per started process, and support of bfloat16."""
import os
from pathlib import Path

_MAX_THREADS = 8  # of a process: the small models that run side by side do not get faster with more; measured


def available_cpus() -> int:
    """Number of CPUs that this process may use, by its affinity and by the quota of its container."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota = read_system_file('/sys/fs/cgroup/cpu.max').split()  # 'max 100000', or microseconds per period
    if len(quota) == 2 and quota[0].isdigit():
        cpus = min(cpus, max(1, round(int(quota[0]) / int(quota[1]))))
    return cpus


def threads_per_process(processes: int) -> int:
    """Equal share of the CPUs for each of several processes, 1 to 8 threads."""
    return min(_MAX_THREADS, max(1, available_cpus() // processes))


def cpu_has_bfloat16(cpuinfo: str = '/proc/cpuinfo') -> bool:
    """True if Linux reports matrix products in bfloat16 (AMX). Without it, bfloat16 is slower than float32."""
    try:
        lines = Path(cpuinfo).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return False
    flags = next((line.split(':', 1)[1].split() for line in lines if line.startswith(('flags', 'Features'))), [])
    # avx512_bf16 is not enough: on a Sapphire Rapids with its AMX hidden, matrix products took 1.7 times as long in
    # bfloat16 as in float32, and a step of ViT-B 1.8 times (mae-backbone benchmark step --dtype bfloat16).
    return not {'amx_bf16', 'bf16'}.isdisjoint(flags)


def read_system_file(path: str) -> str:
    """Content of a Linux system file; empty on other systems."""
    try:
        return Path(path).read_text(encoding='utf-8')
    except OSError:
        return ''
