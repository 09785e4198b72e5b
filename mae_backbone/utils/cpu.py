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
    """True if Linux reports a CPU that multiplies matrices faster in bfloat16 than in float32.

    These are Intel's with AMX (Xeon, from Sapphire Rapids on), AMD's with avx512_bf16 (from Zen 4 on), Arm's with bf16.
    """
    try:
        lines = Path(cpuinfo).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return False
    parts = (line.partition(':') for line in reversed(lines))  # reversed: the values of the first CPU are kept
    fields = {name.strip(): value.strip() for name, _, value in parts}
    flags = set((fields.get('flags') or fields.get('Features') or '').split())
    # Matrix products in bfloat16 took 0.22 of their time in float32 on a Zen 5, and a training step of the MAE 0.51.
    # A Sapphire Rapids with its AMX hidden also reports avx512_bf16, but there products took 1.7 times as long, and a
    # step of ViT-B 1.8 times (mae-backbone benchmark step --dtype bfloat16).
    if fields.get('vendor_id') == 'AuthenticAMD' and 'avx512_bf16' in flags:
        return True
    return not {'amx_bf16', 'bf16'}.isdisjoint(flags)


def read_system_file(path: str) -> str:
    """Content of a Linux system file; empty on other systems."""
    try:
        return Path(path).read_text(encoding='utf-8')
    except OSError:
        return ''
