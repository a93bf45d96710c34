"""Who is calling: the app by its JWT, or an installation by a token that the simulator gave out.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.github import render
from tests.support.github.accounts import Installation
from tests.support.github.problems import ApiProblem, address_refused, forbidden
from tests.support.github.repository import Repository

TOKEN_LIFETIME: Final = timedelta(hours=1)
_LONGEST_JWT_S: Final = 600
#: Clocks differ: GitHub bears a little. The documented advice is to set `iat` 60 seconds back.
_CLOCK_SKEW_S: Final = 60


@functools.cache
def private_key_pem() -> str:
    """One RSA key for the whole process; making one takes long."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


@functools.cache
def _public_key() -> rsa.RSAPublicKey:
    key = serialization.load_pem_private_key(private_key_pem().encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.public_key()


def check_app_jwt(value: str, *, app_id: int, now: datetime) -> None:
    """Accept the app's JWT or raise ApiProblem 401 in GitHub's words."""
    try:
        # the times are checked below, with the simulator's clock and GitHub's texts
        claims = jwt.decode(
            value,
            _public_key(),
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidTokenError as error:
        raise ApiProblem(401, "A JSON web token could not be decoded") from error
    if str(claims.get("iss")) not in (str(app_id), render.client_id(app_id)):
        raise ApiProblem(404, "Integration not found")
    _check_times(claims, now.timestamp())


def _check_times(claims: Mapping[str, object], now_s: float) -> None:
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or issued > now_s + _CLOCK_SKEW_S:
        raise ApiProblem(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the"
            " assertion was issued",
        )
    if not isinstance(expires, int) or expires <= now_s:
        raise ApiProblem(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future"
            " time at which the assertion expires",
        )
    if expires > now_s + _LONGEST_JWT_S + _CLOCK_SKEW_S:
        raise ApiProblem(401, "'Expiration time' claim ('exp') is too far in the future")


@dataclass(frozen=True, slots=True)
class Token:
    """An installation token and what it may do."""

    value: str = field(repr=False)
    installation: Installation
    permissions: Mapping[str, str]
    expires_at: datetime
    #: None: everything that the installation covers.
    repository_ids: frozenset[int] | None = None

    def reaches(self, repository: Repository) -> bool:
        """True when the token's installation covers the repository."""
        narrowed = self.repository_ids is None or repository.id in self.repository_ids
        return narrowed and self.installation.covers(repository.id)

    def sees(self, repository: Repository) -> bool:
        """True when the repository may be read; public ones may by everybody.

        Raises:
            ApiProblem: 403, its organization refuses the caller's address.
        """
        seen = not repository.private or self.reaches(repository)
        if seen and repository.owner.refuses_address:
            raise address_refused(repository.owner.login)
        return seen

    def require(self, repository: Repository, permission: str, level: str = "write") -> None:
        """Raise ApiProblem 403 unless the token may do this to the repository."""
        given = self.permissions.get(permission)
        if not self.reaches(repository) or given is None or (level, given) == ("write", "read"):
            raise forbidden()


@dataclass(slots=True)
class Tokens:
    """All tokens given out."""

    _by_value: dict[str, Token] = field(default_factory=dict)

    def issue(
        self,
        installation: Installation,
        now: datetime,
        *,
        permissions: Mapping[str, str] | None = None,
        repository_ids: frozenset[int] | None = None,
    ) -> Token:
        """Give out a token for one hour."""
        value = "ghs_" + secrets.token_urlsafe(27).replace("-", "a").replace("_", "b")
        granted = dict(permissions if permissions is not None else installation.permissions)
        token = Token(value, installation, granted, now + TOKEN_LIFETIME, repository_ids)
        self._by_value[value] = token
        return token

    def check(self, value: str, now: datetime) -> Token:
        """The token with this value; raises ApiProblem 401 for an unknown or expired one."""
        token = self._by_value.get(value)
        if token is None or token.expires_at <= now or token.installation.deleted:
            raise ApiProblem(401, "Bad credentials", kind="FORBIDDEN")
        if token.installation.suspended_at is not None:
            raise ApiProblem(403, "This installation has been suspended", kind="FORBIDDEN")
        return token

    def expire_all(self) -> None:
        """Make every token given out so far worthless, as if an hour had passed."""
        self._by_value.clear()
