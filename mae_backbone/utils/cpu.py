"""How many processors there are for this process, and for each of those that it starts."""
import os
from pathlib import Path

_MOST_THREADS = 8  # of a process: models as small as those that run side by side only wait for more; ours


def available_processors() -> int:
    """Those that this process may use: of its affinity, and of the quota of its container."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota = system_file('/sys/fs/cgroup/cpu.max').split()  # 'max 100000', or microseconds of a period
    if len(quota) == 2 and quota[0].isdigit():
        there = min(there, max(1, round(int(quota[0]) / int(quota[1]))))
    return there


def threads_of_each(processes: int) -> int:
    """An equal share of the processors for each of several processes, at least one thread and not more than 8."""
    return min(_MOST_THREADS, max(1, available_processors() // processes))


def system_file(path: str) -> str:
    """What Linux tells in a file, nothing on another system."""
    try:
        return Path(path).read_text(encoding='utf-8')
    except OSError:
        return ''
