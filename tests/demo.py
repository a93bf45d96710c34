"""`make demo`: the main job on this machine, shown as a timeline.

A local tailnet and a simulated GitHub stand in for the two services; everything between them is real:
GitHub -> HTTPS to the ts.net name -> ingress relay -> WireGuard -> helper -> Unix socket -> aiohttp ->
SQLite -> 202 -> worker -> GraphQL -> one pull request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

from repo_guardian.errors import GuardianError
from tests.support.github.pulls import PullRequest
from tests.support.github.server import SimulatedGitHub
from tests.support.guardian import Guardian, guardian_environment
from tests.support.tailnet import Tailnet

REPOSITORY: Final = "acme/widgets"
_PATIENCE_S: Final = 60.0


class Timeline:
    """Prints what happens, each line with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def say(self, what: str, detail: str = "") -> None:
        """One line of the timeline."""
        at_s = time.perf_counter() - self._started
        print(f"{at_s:7.3f} s  {what:<24} {detail}".rstrip(), flush=True)


async def demo(*, keep: bool) -> None:
    """Run the whole path once.

    Raises:
        AssertionError: something did not happen; with the last log lines.
        GuardianError: the local tailnet is not built.
    """
    timeline = Timeline()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rg-demo-")))
        tailnet = await stack.enter_async_context(Tailnet.start())
        timeline.say("local tailnet up", f"control, relay, CA, DNS on 127.0.0.1; {tailnet.domain}")
        github = await stack.enter_async_context(SimulatedGitHub.start())
        github.add_organization("acme")
        timeline.say("simulated GitHub up", f"{github.api_url}, app installed on acme")

        environment = guardian_environment(github, folder / "data", tailnet)
        guardian = await stack.enter_async_context(Guardian.start(environment))
        timeline.say("repo-guardian started", "TAILSCALE_FUNNEL=true")
        url = await _show_start(guardian, timeline)

        public = await stack.enter_async_context(tailnet.client())
        github.deliver_to(url, session=public)
        opened = asyncio.create_task(github.pull_opened(REPOSITORY, timeout_s=_PATIENCE_S))
        await github.create_repository(REPOSITORY, files={"README.md": "# Widgets\n"})
        timeline.say("repository created", f"{REPOSITORY}, only a README.md")
        await _show_delivery(github, guardian, timeline)
        pull = await opened
        _show_pull(pull, timeline)
        await guardian.logged("repository.reconciled", outcome="pull_opened")
        _show_end(pull)
        if keep:
            await _keep(github, folder, url)


async def _show_start(guardian: Guardian, timeline: Timeline) -> str:
    await guardian.logged("bridge.issuing_certificate", timeout_s=_PATIENCE_S)
    timeline.say("node up", "in userspace: no root, no TUN device")
    certificate = await guardian.logged("cert.loaded", timeout_s=_PATIENCE_S)
    timeline.say("certificate issued", f"{certificate['domain']}, by ACME dns-01")
    ready = await guardian.logged("bridge.ready", timeout_s=_PATIENCE_S)
    timeline.say("public URL", ready["url"])
    return str(ready["url"])


async def _show_delivery(github: SimulatedGitHub, guardian: Guardian, timeline: Timeline) -> None:
    line = await guardian.logged("delivery.recorded", timeout_s=_PATIENCE_S)
    [delivery] = [each for each in github.deliveries if each.guid == line["guid"]]
    timeline.say("delivery", f"{delivery.guid} ({line['github_event']}.{line['action']})")
    timeline.say(
        f"answered {delivery.status_code}",
        f"{delivery.duration_s * 1000:.1f} ms as GitHub saw it, {line['took_ms']} ms in Python",
    )
    timeline.say("caller as Python saw it", f"{line['client']}, through the {line['source']}")


def _show_pull(pull: PullRequest, timeline: Timeline) -> None:
    [commit] = pull.commits
    timeline.say("pull request opened", f"#{pull.number} {pull.title}")
    verified = "verified" if commit.signed_by_github else "NOT VERIFIED"
    timeline.say("one commit", f"{commit.oid[:10]} by {commit.author.name}, {verified}")
    timeline.say("files", ", ".join(pull.files))
    print("\n" + _indented(pull.diff()) + "\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _show_end(pull: PullRequest) -> None:
    print("A webhook came in through the Funnel and one pull request came out; its body:\n")
    print(_indented(pull.body))
    print(
        '\nNext: README.md, "Run it on your organization", takes three steps;'
        " `make demo KEEP=1` keeps this one running."
    )


async def _keep(github: SimulatedGitHub, folder: Path, url: str) -> None:
    """Take orders on a Unix socket until Ctrl-C."""
    orders = folder / "demo.sock"

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order = (await reader.readline()).decode().split()
        try:
            answer = await _carry_out(github, order)
        except (KeyError, ValueError) as refused:
            answer = f"the simulated GitHub refuses: {refused}"
        writer.write(answer.encode() + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(obey, orders)
    print(f"\nStill running at {url}. From another terminal:\n")
    for order in ("create acme/gadgets", "push acme/widgets", "pulls acme/gadgets"):
        print(f"    .venv/bin/python -m tests.demo --order {orders} {order}")
    print("\nCtrl-C ends it.", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        await stop.wait()


async def _carry_out(github: SimulatedGitHub, order: list[str]) -> str:
    match order:
        case ["create", full_name]:
            await github.create_repository(full_name, files={"README.md": "# New\n"})
            return f"created {full_name}; repository.created was delivered"
        case ["push", full_name]:
            await github.push(full_name, {"NOTES.md": f"{time.time()}\n"})
            return f"pushed to {full_name}; push was delivered"
        case ["pulls", full_name]:
            pulls = github.repository(full_name).pulls
            shown = [{"number": p.number, "title": p.title, "files": list(p.files)} for p in pulls]
            return json.dumps(shown, indent=2)
        case _:
            return "expected: create OWNER/REPO | push OWNER/REPO | pulls OWNER/REPO"


async def _order(socket: str, words: list[str]) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(" ".join(words).encode() + b"\n")
    await writer.drain()
    print((await reader.read()).decode(), end="")
    writer.close()


@contextmanager
def _failures_as_words() -> Iterator[None]:
    try:
        yield
    except GuardianError as error:
        sys.exit(f"the demo could not run: {error}\nhint: {error.hint}")
    except AssertionError as error:
        sys.exit(f"the demo failed: {error}")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up and take orders")
    parser.add_argument("--order", metavar="SOCKET", help="send an order to a demo that was kept")
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    with _failures_as_words():
        if arguments.order:
            asyncio.run(_order(arguments.order, arguments.words))
        else:
            asyncio.run(demo(keep=arguments.keep))


if __name__ == "__main__":
    main()
