"""CPU time of a process to the nanosecond; what has ended in it is not counted any more."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_CORES: Final = sorted(os.sched_getaffinity(0))
#: What is measured has a core for itself, and who measures has the other.
RECEIVER_CORE: Final = _CORES[0]
CALLER_CORE: Final = _CORES[-1]


class Spent(NamedTuple):
    """CPU seconds so far."""

    main_thread: float
    all_threads: float

    def since(self, before: Spent) -> Spent:
        """What came between."""
        return Spent(self.main_thread - before.main_thread, self.all_threads - before.all_threads)


def spent(pid: int) -> Spent:
    """Of one process, without its children."""
    by_thread = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended
            by_thread[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return Spent(by_thread[pid], sum(by_thread.values()))
