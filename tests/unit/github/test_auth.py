"""The App's private key is checked before anything uses it, and never shown."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from pydantic import SecretStr

from repo_guardian.errors import GuardianError
from repo_guardian.github.auth import AppCredentials

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = RSA,
    form: PrivateFormat = PrivateFormat.TraditionalOpenSSL,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    """A key as text."""
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(pem(), id="as GitHub gives it"),
        pytest.param(pem(form=PrivateFormat.PKCS8), id="PKCS 8"),
        pytest.param(f"\n {pem()}\n\n", id="with space around"),
        pytest.param(pem().strip().replace("\n", "\\n"), id="in one line, as in .env files"),
    ],
)
def test_an_rsa_key_in_pem_form_is_taken(text: str) -> None:
    """However it was pasted."""
    assert AppCredentials(1, SecretStr(text)).pem.startswith("-----BEGIN")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a private key"),
        ("hunter2", "is not a private key"),
        (pem()[:200], "is not a private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "is not an RSA key"),
        (pem(encryption=BestAvailableEncryption(b"x")), "is encrypted"),
    ],
)
def test_anything_else_is_one_sentence_that_does_not_show_it(text: str, problem: str) -> None:
    """With a hint where to get the right one."""
    with pytest.raises(GuardianError) as caught:
        AppCredentials(1, SecretStr(text))
    assert caught.value.code == "PRIVATE_KEY_INVALID"
    assert problem in caught.value.message
    assert "GITHUB_PRIVATE_KEY_FILE" in caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_key_is_not_in_the_representation() -> None:
    """Not even as stars."""
    assert repr(AppCredentials(1, SecretStr(pem()))) == "AppCredentials(app_id=1)"
