"""Where the bridge's binary is looked for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from repo_guardian.bridge import binary
from repo_guardian.errors import GuardianError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder without a bridge, and a PATH without one."""
    folder = tmp_path / "repo_guardian"
    (folder / "_bin").mkdir(parents=True)
    monkeypatch.setattr(resources, "files", lambda _name: folder)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return folder


def program(path: Path, mode: int = 0o755) -> Path:
    """A file that could be the bridge."""
    path.parent.mkdir(exist_ok=True)
    path.touch(mode)
    return path


def test_override_wins_over_the_package_and_the_package_over_path(package: Path) -> None:
    """The order: what the operator named, what was installed with us, what happens to be there."""
    on_path = program(package.parent / "bin/tsnet_bridge")
    assert on_path == binary.find_binary()
    packaged = program(package / "_bin/tsnet_bridge")
    assert packaged == binary.find_binary()
    override = program(package.parent / "mine")
    assert override == binary.find_binary(override)


def test_missing_bridge_is_told_with_three_ways_out(package: Path) -> None:
    """A pure wheel has none."""
    with pytest.raises(GuardianError) as caught:
        binary.find_binary()
    assert "BRIDGE_BINARY_MISSING" == caught.value.code
    for way in ("make build", "platform wheel", "TSNET_BRIDGE_BIN"):
        assert way in caught.value.hint


def test_wrong_override_does_not_fall_back(package: Path) -> None:
    """Who names a file wants that file and no other."""
    program(package / "_bin/tsnet_bridge")

    with pytest.raises(GuardianError, match="BRIDGE_BINARY_MISSING") as caught:
        binary.find_binary(package / "typo")
    assert "TSNET_BRIDGE_BIN" in caught.value.hint


def test_bridge_without_its_exec_bit_is_told_apart(package: Path) -> None:
    """It is there, and `chmod` is what helps."""
    program(package / "_bin/tsnet_bridge", 0o644)

    with pytest.raises(GuardianError) as caught:
        binary.find_binary()
    assert "BRIDGE_BINARY_NOT_EXECUTABLE" == caught.value.code
    assert "chmod 755" in caught.value.hint
