"""How a command was started: the environment, a `.env` file, and of the settings those that it uses."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Final

import dotenv

from repo_guardian.errors import GuardianError
from repo_guardian.settings.environment import names_of
from repo_guardian.settings.model import Settings, load_settings, without_given

#: For what every settings object must have and a command may do without; never used.
_STAND_INS: Final = {"GITHUB_APP_ID": "1", "GITHUB_PRIVATE_KEY": "-"}


def read_environment() -> dict[str, str]:
    """The process environment over what a `.env` file in the working folder says.

    Raises:
        GuardianError: SETTINGS_INVALID when there is such a file and it cannot be read.
    """
    try:
        found = dotenv.dotenv_values(".env")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise GuardianError(
            "SETTINGS_INVALID",
            f"the file .env cannot be read: {unreadable}",
            hint="make it readable UTF-8 text, or start in another folder",
        ) from unreadable
    # What the environment gives wins over the file, by whichever name.
    from_file = {name: value for name, value in found.items() if value is not None}
    return {**without_given(from_file, os.environ), **os.environ}


def load_some(environ: Mapping[str, str], fields: Collection[str]) -> Settings:
    """Read these fields of `Settings` alone: what else is missing or wrong keeps nobody from using them.

    Args:
        environ: names to values.
        fields: the fields that the caller uses; the others have their defaults or nonsense.

    Raises:
        GuardianError: SETTINGS_INVALID with every mistake in these fields.
    """
    names = {name for field in fields for name in names_of(field.upper())}
    given = {name: value for name, value in environ.items() if name in names}
    missing = {name: text for name, text in _STAND_INS.items() if name.lower() not in fields}
    return load_settings({**missing, **given}, serving=False)
