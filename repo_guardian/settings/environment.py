"""The environment's names and files to the text of each setting; nothing is understood yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

#: Other names for a setting: the Go program's, containerboot's and tsnet's.
ALIASES: Mapping[str, str] = {"TS_AUTH_KEY": "TS_AUTHKEY", "TS_LOGIN_SERVER": "TS_CONTROL_URL"}
#: A setting that always named a file, from the Go program.
FILE_ALIASES: Mapping[str, str] = {"GITHUB_PRIVATE_KEY_PATH": "GITHUB_PRIVATE_KEY"}
#: containerboot's way to name a file.
_FILE_PREFIX = "file:"
_FILE_PREFIX_READ = ("TS_AUTHKEY", "TS_CLIENT_SECRET")
#: A token that is replaced every few minutes: whoever uses it reads the file then.
_READ_WHEN_USED = "TS_ID_TOKEN"


def read_texts(
    names: Iterable[str], environ: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Read each setting from its name, another name, or a file that is named.

    Args:
        names: of the settings.
        environ: names to values; an empty value is none.

    Returns:
        The texts, and what is wrong, both by the setting's name.
    """
    texts: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in names:
        given = {other: environ[other] for other in names_of(name) if environ.get(other)}
        if len(given) > 1:
            problems[name] = f"is given twice, by {' and '.join(given)}; expected one of them"
        for source, value in given.items():
            try:
                texts[name] = _text(name, source, value)
            except (OSError, UnicodeDecodeError) as unreadable:
                why = getattr(unreadable, "strerror", None) or "not UTF-8 text"
                problems.setdefault(
                    name, f"cannot be read from the file that {source} names ({why})"
                )
    return texts, problems


def names_of(name: str) -> list[str]:
    """Every name by which the environment can give a setting."""
    others = [alias for alias, target in ALIASES.items() if target == name]
    files = [alias for alias, target in FILE_ALIASES.items() if target == name]
    return [name, *others, *(f"{each}_FILE" for each in (name, *others)), *files]


def _text(name: str, source: str, value: str) -> str:
    """The text itself, read from a file where one is named; one newline at the end is dropped."""
    is_file = source in FILE_ALIASES or (source.endswith("_FILE") and source != name)
    if name == _READ_WHEN_USED:
        return f"{_FILE_PREFIX}{Path(value).absolute()}" if is_file else value
    if name in _FILE_PREFIX_READ and not is_file and value.startswith(_FILE_PREFIX):
        return Path(value.removeprefix(_FILE_PREFIX)).read_text().strip()
    return Path(value).read_text().removesuffix("\n") if is_file else value
