"""Memory available to this process."""
from mae_backbone.utils.cpu import read_system_file

_UNKNOWN = 2**33  # bytes assumed on systems that do not tell


def available_memory() -> int:
    """Free memory in bytes, of the machine and of the container."""
    limits = [int(line.split()[1]) * 1024 for line in read_system_file('/proc/meminfo').splitlines()
              if line.startswith('MemAvailable')]
    limit = read_system_file('/sys/fs/cgroup/memory.max').strip()
    used = read_system_file('/sys/fs/cgroup/memory.current').strip()
    if limit.isdigit() and used.isdigit():
        limits.append(int(limit) - int(used))
    return max(0, min(limits, default=_UNKNOWN))
