"""Bytes: of the helper, of the wheel, and (`make sizes`) what each build tag is worth."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.programs import ROOT
from tests.bench.report import Report, Shape, at_most
from tsnet_bridge.build import (
    PROGRAMS,
    BuildError,
    go_command,
    go_environment,
    need_go,
    read_tags,
    read_version,
    run_with_ticks,
    wanted_target,
)

#: The tags in question; a tag of tags.txt is left out for once, another one is put in.
IN_QUESTION: Final = (
    *("logtail", "portmapper", "dns", "usermetrics", "clientmetrics", "identityfederation"),
    "gro",  # must stay out of tags.txt: without GRO an upload costs 1.4 times the CPU
)
_MB: Final = Shape(" MB", 2)


def measure_sizes(helper: Path, report: Report) -> None:
    """What is on this disk already."""
    report.figure("helper", helper.stat().st_size / 1e6, _MB, at_most(20, " MB"))
    wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda one: one.stat().st_mtime)
    if wheels:
        report.figure("wheel", wheels[-1].stat().st_size / 1e6, _MB, at_most(8, " MB"))


def compare_tags() -> None:
    """Build the helper once for each choice of tags and print its bytes; takes many minutes.

    Raises:
        BuildError: one does not build.
    """
    ours = read_tags(PROGRAMS["helper"].folder).split(",")
    size = _size_with(ours)
    print(f"{'all tags of tags.txt':<40} {size:>11,}")
    for name, tags in _choices(ours):
        other = _size_with(tags)
        print(f"{name:<40} {other:>11,}  {other - size:+,}", flush=True)


def _choices(ours: list[str]) -> Iterator[tuple[str, list[str]]]:
    yield "no tags", []
    for feature in IN_QUESTION:
        tag = f"ts_omit_{feature}"
        if tag in ours:
            yield f"without {tag}", [one for one in ours if one != tag]
        else:
            yield f"with {tag} too", [*ours, tag]


def _size_with(tags: list[str]) -> int:
    program = PROGRAMS["helper"]
    with tempfile.TemporaryDirectory(prefix="rg-sizes-") as folder:
        out = Path(folder) / program.name
        command = go_command(
            need_go().path, version=read_version(ROOT), tags=",".join(tags), out=out
        )
        environment = go_environment(os.environ, wanted_target(os.environ))
        if run_with_ticks(command, program.folder, environment, program.name) != 0:
            raise BuildError(f"{program.name} does not build with the tags {','.join(tags)}")
        return out.stat().st_size


if __name__ == "__main__":
    try:
        compare_tags()
    except BuildError as error:
        sys.exit(f"error: {error}")
