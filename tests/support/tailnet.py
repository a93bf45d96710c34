"""The local tailnet: a whole Tailscale tailnet on 127.0.0.1, started for a test or the demo.

The program in tests/tailnet is the tailnet; this module starts and ends it, speaks to its fault
API, and makes an aiohttp client that stands outside, where GitHub stands:

    async with Tailnet.start() as tailnet:
        ...  # start the helper with tailnet.control_url and tailnet.helper_env()
        async with tailnet.client() as client:
            await client.post("https://repo-guardian.tail-box.ts.net/webhooks/github", ...)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from repo_guardian.errors import GuardianError

#: Where `make` puts the program; the environment variable names another one.
DEFAULT_BINARY: Final = Path(__file__).resolve().parents[2] / "build" / "tailnet"
BINARY_VARIABLE: Final = "REPO_GUARDIAN_TAILNET_BIN"

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 5.0

#: What a fault can be: True and False become 1 and 0, None resets it.
Fault = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """How far an attempt inside the tailnet came, and the last HTTP answer that it got."""

    #: dial, ingress, tls, request or done.
    stage: str
    #: Of the answer, such as "200 OK"; empty when there was none.
    status: str
    #: Why it came no further; empty at done.
    error: str
    #: Of the answer, its first 64 KiB.
    body: str
    #: Of the answer; several of a name have a comma between them.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tailnet:
    """A running local tailnet and its addresses, as its ready line tells them.

    `relay` is the public side of Funnel: port 443 of every name under `domain` is there.
    """

    control_url: str
    acme_directory: str
    acme_ca: Path
    public_ca: Path
    relay: tuple[str, int]
    dns: tuple[str, int]
    api: str
    domain: str
    client_address: str

    @classmethod
    @asynccontextmanager
    async def start(cls, *, binary: Path | None = None) -> AsyncIterator[Self]:
        """Start the tailnet and end it on exit, whatever happened in between.

        Raises GuardianError TAILNET_NOT_BUILT when the program is not there, and
        TAILNET_NOT_STARTED, with what it wrote to stderr, when it does not become ready.
        """
        path = _find_binary(binary)
        with tempfile.TemporaryFile() as stderr:
            process = await asyncio.create_subprocess_exec(
                path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
            try:
                yield cls._from_ready_line(await _ready_line(process, stderr))
            finally:
                await _stop(process)

    @classmethod
    def _from_ready_line(cls, line: bytes) -> Self:
        ready: dict[str, str] = json.loads(line)
        return cls(
            control_url=ready["control_url"],
            acme_directory=ready["acme_directory"],
            acme_ca=Path(ready["acme_ca"]),
            public_ca=Path(ready["public_ca"]),
            relay=_host_and_port(ready["relay"]),
            dns=_host_and_port(ready["dns"]),
            api=ready["api"],
            domain=ready["domain"],
            client_address=ready["client_address"],
        )

    def helper_env(self) -> dict[str, str]:
        """Return what a helper needs in its environment to use the CA here and send no logs."""
        return {
            "SSL_CERT_FILE": str(self.acme_ca),
            "TS_DEBUG_ACME_DIRECTORY_URL": self.acme_directory,
            "TS_NO_LOGS_NO_SUPPORT": "true",
        }

    def ssl_context(self) -> ssl.SSLContext:
        """Return the trust of an outside client: the public CA here, and no other."""
        return ssl.create_default_context(cafile=str(self.public_ca))

    def resolver(self) -> AbstractResolver:
        """Return a resolver that knows the names of the tailnet and refuses all others."""
        return _PublicResolver(self)

    def client(self) -> aiohttp.ClientSession:
        """Return a client outside, which reaches the tailnet by its public names and nothing else."""
        connector = aiohttp.TCPConnector(
            resolver=self.resolver(),
            ssl=self.ssl_context(),
            use_dns_cache=False,  # a resolve costs nothing here, and the cache forgets ports
            socket_factory=_loopback_socket,
        )
        return aiohttp.ClientSession(connector=connector)

    async def set(self, **faults: Fault) -> None:
        """Set faults by the names of tests/tailnet/faults.go; None sets one back.

        Who may join: auth_key, key_err, strict_key, machine (approval), taken (a name).
        The API for credentials, at control_url: oauth_secret, wif_client, wif_token (what it
        knows; unset: any), api_status (it answers with that only), api_down (it hangs up).
        Control: map_fault, del_fault, reg_fault, reg_after, control_hang, clock_skew (seconds).
        Records for the CA: dns_err, dns_delay, dns_swallow. The CA: acme_delay, acme_429 (its
        Retry-After: seconds or an HTTP date).
        The netmap: mdns, no_https, no_relay, rules (nocap, none, noaccept, unsigned, any).
        Outside: client_address, relay (down, stall, reset, cut).
        Addresses in the public DNS: a_answer ("100.64.0.9,fd7a:115c:a1e0::9"), a_fail (nxdomain,
        servfail, silent). Neither the CA nor client() meets these two.
        """
        await self._post("set", faults)

    async def reset(self) -> None:
        """Make the tailnet as it was at its start: no faults, no nodes but its own, empty logs."""
        await self._post("reset", {})

    async def login(self, url: str) -> None:
        """Be the person who opens a login URL."""
        await self._post("login", {"url": url})

    async def approve(self, host: str, *, yes: bool = True) -> None:
        """Be the administrator who approves a node, or takes the approval back."""
        await self._post("approve", {"host": host, "yes": yes})

    async def caps(self, *caps: str, host: str = "") -> None:
        """Set the capabilities of one node, or of every node without its own.

        Known short names: https, funnel, ports=443+8443; others by their full name.
        """
        await self._post("caps", {"host": host, "caps": ",".join(caps)})

    async def delete(self, host: str) -> None:
        """Delete a node from the tailnet."""
        await self._post("delete", {"host": host})

    async def expire(self, host: str, *, in_s: float | None) -> None:
        """Let the key of a node end in so many seconds (negative: it has); None: never."""
        await self._post("expire", {"host": host, "in": in_s})

    async def rename(self, host: str, to: str) -> None:
        """Give a node another name."""
        await self._post("rename", {"host": host, "to": to})

    async def break_polls(self, host: str) -> None:
        """Cut the map polls of a node. It asks again at once; with control_hang it is offline."""
        await self._post("break", {"host": host})

    async def control(self, up: bool) -> None:
        """Take the control server away, and the API for credentials with it, or bring both back."""
        await self._post("control", {"up": up})

    async def acme(self, up: bool) -> None:
        """Take the CA away, or bring it back."""
        await self._post("acme", {"up": up})

    async def validity(self, seconds: int) -> None:
        """Set the lifetime of the certificates to come."""
        await self._post("validity", {"s": seconds})

    async def peer(
        self,
        host: str,
        *,
        port: int | None = None,
        ingress: bool = False,
        target: str = "",
        tls: str = "",
        as_ingress: bool = False,
        method: str = "GET",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
    ) -> PeerAnswer:
        """Ask a node from inside the tailnet, as Ada's laptop or as the ingress node.

        Args:
            host: name of the node.
            port: of the node.
            ingress: ask its peerAPI to take a Funnel connection first; then port may be None.
            target: of that Funnel connection; empty: the node's own name, port 443.
            tls: speak TLS with this server name; empty: speak plain.
            as_ingress: ask from the ingress node, not from the laptop of ada@example.com,
                "Ada Lovelace", which enrols at its first use.
            method: of the request.
            path: of the request, with its query.
            headers: of the request; Host takes the place of the node's public name.
        """
        answer = await self._post(
            "peer",
            {
                "host": host,
                "port": port,
                "papi": ingress,
                "target": target,
                "tls": tls,
                "as": "ingress" if as_ingress else "laptop",
                "method": method,
                "path": path,
                "headers": json.dumps(dict(headers or {})),
            },
        )
        return PeerAnswer(**answer)

    async def nodes(self) -> list[dict[str, Any]]:
        """Return every node that ever was, as control knows it.

        Keys: label, key, ips, admitted, approved, deleted, expiry, caps, tags and ephemeral (of
        an auth key that the API made), ingress, streaming.
        """
        nodes: list[dict[str, Any]] = await self._call("GET", "nodes", {})
        return nodes

    async def logs(self, *, clear: bool = False) -> dict[str, list[str]]:
        """Return what the CA (acme), the API (api), control and the relay (only failures) saw."""
        logs: dict[str, list[str]] = await self._call("GET", "logs", {"clear": clear})
        return logs

    async def _post(self, path: str, values: Mapping[str, Fault]) -> Any:
        return await self._call("POST", path, values)

    async def _call(self, method: str, path: str, values: Mapping[str, Fault]) -> Any:
        params = {name: _as_text(value) for name, value in values.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.api}/{path}", params=params) as response,
        ):
            answer = await response.json()
            if response.status != 200:
                raise GuardianError("TAILNET_REFUSED", f"/{path}: {answer['error']}")
            return answer


class _PublicResolver(AbstractResolver):
    """The public DNS of a tailnet, for aiohttp, which connects to the port of the answer."""

    def __init__(self, tailnet: Tailnet) -> None:
        self._tailnet = tailnet

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer with the relay for port 443 of a name here; OSError for any other name."""
        address, real_port = self._lookup(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=real_port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    def _lookup(self, host: str, port: int) -> tuple[str, int]:
        if _is_loopback(host):
            return host, port
        if host.endswith(f".{self._tailnet.domain}") and port == 443:
            return self._tailnet.relay
        raise OSError(errno.EHOSTUNREACH, f"{host}:{port} is not on the local tailnet")

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _loopback_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make the socket for a connection; OSError for an address off this machine.

    An address that is written as a number never comes to a resolver.
    """
    family, kind, protocol, _, target = address
    if not _is_loopback(str(target[0])):
        raise OSError(errno.EHOSTUNREACH, f"{target[0]} is not on this machine")
    return socket.socket(family, kind, protocol)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _find_binary(given: Path | None) -> Path:
    path = given or Path(os.environ.get(BINARY_VARIABLE, DEFAULT_BINARY))
    if not path.is_file():
        raise GuardianError(
            "TAILNET_NOT_BUILT",
            f"there is no local tailnet at {path}",
            hint="cd tests/tailnet && go build -o ../../build/tailnet .",
        )
    return path


async def _ready_line(process: asyncio.subprocess.Process, stderr: IO[bytes]) -> bytes:
    assert process.stdout is not None  # it is a pipe
    line = b""
    with contextlib.suppress(TimeoutError):
        line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
    if line.endswith(b"\n"):
        return line
    stderr.seek(0)
    said = stderr.read().decode(errors="replace").strip() or "nothing"
    raise GuardianError(
        "TAILNET_NOT_STARTED", f"the local tailnet gave no ready line and said: {said}"
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None  # it is a pipe
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _as_text(value: Fault) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)
