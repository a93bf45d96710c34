"""Who we are to GitHub: the App's number and private key, checked before anything uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from repo_guardian.errors import GuardianError

_HINT = (
    "on the App's page: Private keys, Generate a private key; then GITHUB_PRIVATE_KEY_FILE=app.pem"
)


class Secret(Protocol):
    """A value that does not show itself, such as pydantic's SecretStr."""

    def get_secret_value(self) -> str:
        """Return the value."""


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """The App's id and its private key.

    Args:
        app_id: number (or client id) of the App.
        private_key: RSA key in PEM form, as GitHub gives it out.

    Raises:
        GuardianError: PRIVATE_KEY_INVALID when the key is no such key; the text never shows it.
    """

    app_id: str | int
    private_key: Secret = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.pem)

    @property
    def pem(self) -> str:
        """The key's text. A one-line form with written-out `\\n`, as in .env files, is accepted."""
        text = self.private_key.get_secret_value().strip()
        return text.replace("\\n", "\n") if "\n" not in text else text


def _check(pem: str) -> None:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise _invalid("is encrypted; expected a key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid(
            "is not a private key; expected PEM text (-----BEGIN RSA PRIVATE KEY-----)"
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise _invalid("is not an RSA key; expected the key that GitHub made for the App")


def _invalid(problem: str) -> GuardianError:
    return GuardianError("PRIVATE_KEY_INVALID", f"the App's private key {problem}", hint=_HINT)
