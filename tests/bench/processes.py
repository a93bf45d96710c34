"""What processes cost, as /proc tells it; always for a process and all its descendants."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """MiB resident: now, and at its highest."""

    now: float
    peak: float


class Use(NamedTuple):
    """What was used up so far: CPU seconds, and how often a thread went to sleep by itself."""

    cpu_s: float
    wakeups: int


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children[int(_stat(int(folder.name))[1])].append(int(folder.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


def memory(pids: Iterable[int]) -> Memory:
    """The sum over these processes; their peaks may have come at different times."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return Memory(
        sum(_number(text, "VmRSS") for text in texts) / 1024,
        sum(_number(text, "VmHWM") for text in texts) / 1024,
    )


def use(pids: Iterable[int]) -> Use:
    """The sum over these processes and their threads."""
    cpu_s, wakeups = 0.0, 0
    for pid in pids:
        fields = _stat(pid)
        cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # the thread has ended
                wakeups += _number((task / "status").read_text(), "voluntary_ctxt_switches")
    return Use(cpu_s, wakeups)


def cpu_s_of_others() -> float:
    """CPU seconds that this machine has spent so far on what is neither this process nor its children."""
    ours = use(tree(os.getpid())).cpu_s
    ended = os.times()
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _iowait, *interrupts_and_steal = map(int, words)
    busy = user + nice + system + sum(interrupts_and_steal)
    return busy / _TICKS_PER_S - ours - ended.children_user - ended.children_system


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second is a name that may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _number(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0
