"""Where a thread's CPU time goes: its stack, looked at many times a second of its own work.

The kernel counts CPU time and signals; Python runs the handler in the main thread between two of its
steps, and after each call into C. So it is the main thread that can be looked at without bending the
result, and what belongs to another thread is run in the main one for it.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final, NamedTuple

_EVERY_S: Final = 0.002

#: The file and the function of one frame.
Place = tuple[str, str]


class Rule(NamedTuple):
    """Frames of files whose path has `file` in it, and of functions whose name has `function`."""

    part: str
    file: str
    function: str = ""

    def fits(self, place: Place) -> bool:
        """Whether the frame is of this part."""
        return self.file in place[0] and self.function in place[1]


class Samples:
    """CPU seconds of the main thread by part."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._part_of: dict[Place, str | None] = {}
        self._taken_s: defaultdict[str, float] = defaultdict(float)
        self._last_s = 0.0

    @property
    def taken_s(self) -> Mapping[str, float]:
        """So far."""
        return self._taken_s

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Look for the time of the `with`, in the main thread."""
        self._last_s = time.thread_time()
        before = signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        now_s = time.thread_time()  # another thread may have spent the rest
        self._taken_s[self._part(frame)] += now_s - self._last_s
        self._last_s = now_s

    def _part(self, frame: FrameType | None) -> str:
        """Of the innermost frame that belongs to one."""
        while frame is not None:
            place = (frame.f_code.co_filename, frame.f_code.co_name)
            if place not in self._part_of:
                self._part_of[place] = next((r.part for r in self._rules if r.fits(place)), None)
            if (part := self._part_of[place]) is not None:
                return part
            frame = frame.f_back
        return "other"


#: The event loop of the receiver. The first rule that fits a frame counts, of the innermost such frame.
LOOP_RULES: Final = (
    Rule("signature", "webhooks/delivery.py", "verify_signature"),
    Rule("header checks", "webhooks/delivery.py", "check_headers"),
    Rule("payload", "webhooks/delivery.py", "_parse_payload"),
    Rule("payload", "webhooks/routing.py"),
    Rule("log line", "structlog"),
    Rule("log line", "/logging/"),
    Rule("log line", "repo_guardian/log.py"),
    Rule("metrics", "prometheus_client"),
    Rule("store, in the event loop", "repo_guardian/store/"),
    Rule("reading the body", "webhooks/endpoint.py", "_read"),
    Rule("making the answer", "aiohttp/web_response.py"),
    Rule("handler", "repo_guardian/"),
    Rule("aiohttp", "/aiohttp/"),
    Rule("asyncio and sockets", "/asyncio/"),
    Rule("asyncio and sockets", "selectors.py"),
)
#: The writer thread of the store.
STORE_RULES: Final = (
    Rule("packing the payload", "store/inbox.py", "_pack"),
    Rule("COMMIT", "sqlalchemy", "do_commit"),
    Rule("SQLite, the statements", "sqlalchemy", "do_execute"),
    Rule("SQLite, the statements", "store/dialect.py", "run"),
    Rule("SQLAlchemy", "/sqlalchemy/"),
    Rule("the store", "repo_guardian/store/"),
)
