"""CPU time of a process and all its descendants, those included that have ended.

The kernel adds the time of a child, and of all that child waited for, to its parent's `cutime` and `cstime` when the
parent waits for it (proc(5)). So own time plus children's time, summed over the living members of a family, counts
every process once: the living by themselves, the dead in whoever waited for them. A process that leaves the family (a
daemon's double fork) is lost, so contenders run in the foreground.

Read from /proc: in ticks of 10 ms for each process, which is fine against runs of seconds.
"""

import contextlib

import psutil


def cpu_seconds(root: int) -> float:
    """User and system time used so far by process `root` and its descendants. 0.0 when it is gone."""
    try:
        process = psutil.Process(root)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for member in family:
        # One that ended since the list was made is in its parent's account by the next reading.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
