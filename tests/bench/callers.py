"""Callers that deliver pushes over plain HTTP/1.1: `python -m tests.bench.callers ADDRESS`, a process of its own.

Sockets and epoll by hand, on a core of its own: a client library would be slower than what is measured.
Prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import socket
import time
from array import array
from dataclasses import asdict, dataclass
from typing import Final

from tests.bench import pushes
from tests.bench.cpu import CALLER_CORE, Spent, spent

_ANSWER_BYTES: Final = 65_536
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: Nothing that is measured takes so long: it has died, or forgotten a request.
_SILENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """What became of the requests of one run.

    Attributes:
        rps: answered with 2xx, each second.
        errors: answered with anything else.
        cpu_us: CPU microseconds of the receiver for each request.
        main_us: of them those of its main thread, where the event loop is.
        callers_busy: share of their core that the callers took; near 1 they were what was measured.
    """

    requests: int
    errors: int
    seconds: float
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    main_us: float
    callers_busy: float


class Connection:
    """One connection, with one request under way at a time."""

    __slots__ = ("_answer", "began", "socket")

    def __init__(self, address: str) -> None:
        self.socket = connect(address)
        self.socket.setblocking(False)
        self.began = 0.0
        self._answer = b""

    def send(self, request: bytes) -> None:
        """Send a request. It fits into the socket's buffer, which is empty."""
        self.began = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise BlockingIOError("a request did not fit into the socket's buffer")

    def receive(self) -> bytes | None:
        """The answer, once it is whole."""
        part = self.socket.recv(_ANSWER_BYTES)
        if not part:
            raise ConnectionResetError("the receiver hung up")
        answer = self._answer + part
        whole = is_whole(answer)
        self._answer = b"" if whole else answer
        return answer if whole else None


def connect(address: str) -> socket.socket:
    """Connect to `HOST:PORT`, or to the path of a Unix socket."""
    if address.startswith("/"):
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(address)
        return unix
    host, _, port = address.rpartition(":")
    tcp = socket.create_connection((host, int(port)))
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tcp


def is_whole(answer: bytes) -> bool:
    """Whether this is a whole HTTP answer, with a length or in chunks."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(answer, 0, end)
    if length is None:
        return answer.endswith(b"\r\n0\r\n\r\n")
    return len(answer) >= end + 4 + int(length[1])


class Callers:
    """So many connections, each of which sends the next request as soon as the last is answered."""

    def __init__(self, address: str, count: int) -> None:
        self._connections = {
            c.socket.fileno(): c for c in (Connection(address) for _ in range(count))
        }
        self._epoll = select.epoll()
        self._requests = pushes.requests()
        self.took = array("d")
        self.errors = 0
        for number, connection in self._connections.items():
            self._epoll.register(number, select.EPOLLIN)
            connection.send(next(self._requests))

    def run(self, *, seconds: float = float("inf"), count: float = float("inf")) -> None:
        """Go on for some seconds or so many requests, whichever ends first."""
        end_s = time.perf_counter() + seconds
        count += len(self.took)
        while (now_s := time.perf_counter()) < end_s and len(self.took) < count:
            ready = self._epoll.poll(min(end_s - now_s, _SILENCE_S))
            if not ready and end_s - now_s > _SILENCE_S:
                raise TimeoutError(f"no answer in {_SILENCE_S:g} s")
            for number, _ in ready:
                self._go_on(self._connections[number])

    def forget(self) -> None:
        """What came so far does not count."""
        self.took = array("d")
        self.errors = 0

    def _go_on(self, connection: Connection) -> None:
        answer = connection.receive()
        if answer is None:
            return
        self.took.append(time.perf_counter() - connection.began)
        if answer[9:10] != b"2":
            self.errors += 1
        connection.send(next(self._requests))


def measure(
    callers: Callers, pid: int, *, warm_s: float, seconds: float, count: float
) -> Deliveries:
    """Let them loose, and look at the CPU of both sides at both ends of the time that counts."""
    callers.run(seconds=warm_s)
    callers.forget()
    before, busy_s, began_s = spent(pid), time.process_time(), time.perf_counter()
    callers.run(seconds=seconds, count=count)
    took_s = time.perf_counter() - began_s
    return _figures(callers, spent(pid).since(before), took_s, time.process_time() - busy_s)


def _figures(callers: Callers, cost: Spent, took_s: float, busy_s: float) -> Deliveries:
    ordered = sorted(callers.took)
    if not ordered:
        raise TimeoutError("not one request was answered")
    count = len(ordered)
    return Deliveries(
        requests=count,
        errors=callers.errors,
        seconds=took_s,
        rps=(count - callers.errors) / took_s,
        p50_ms=ordered[count // 2] * 1000,
        p99_ms=ordered[count * 99 // 100] * 1000,
        max_ms=ordered[-1] * 1000,
        cpu_us=cost.all_threads / count * 1e6,
        main_us=cost.main_thread / count * 1e6,
        callers_busy=busy_s / took_s,
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.callers", description=__doc__)
    parser.add_argument("address", help="HOST:PORT, or the path of a Unix socket")
    parser.add_argument("--pid", type=int, required=True, help="of the receiver")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--warm", type=float, default=0.5, help="seconds that do not count")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--count", type=float, default=float("inf"))
    asked = parser.parse_args()
    os.sched_setaffinity(0, {CALLER_CORE})
    callers = Callers(asked.address, asked.connections)
    result = measure(
        callers, asked.pid, warm_s=asked.warm, seconds=asked.seconds, count=asked.count
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
