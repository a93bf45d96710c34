"""How the node may log in to its tailnet: one way, complete (pure).

Source: https://tailscale.com/kb/1215/oauth-clients and https://tailscale.com/kb/1581/workload-identity-federation
"""

from __future__ import annotations

from collections.abc import Mapping

#: An auth key, an OAuth client, a workload identity.
_WAYS = ("TS_AUTHKEY", "TS_CLIENT_SECRET", "TS_CLIENT_ID")
#: How Tailscale's OAuth client secrets begin; TS_AUTHKEY takes one as well.
OAUTH_PREFIX = "tskey-client-"


def login_problems(texts: Mapping[str, str]) -> dict[str, str]:
    """Say what is wrong with the settings of the login together.

    Args:
        texts: of the settings that are given, by name.

    Returns:
        A sentence by the setting's name; never a value.
    """
    return {**_identity_problems(texts), **_tag_problems(texts), **_several_ways(texts)}


def _several_ways(texts: Mapping[str, str]) -> dict[str, str]:
    *others, last = [name for name in _WAYS if name in texts] or [""]
    if not others:
        return {}
    return {last: f"is given beside {' and '.join(others)}; expected one way to log in"}


def _identity_problems(texts: Mapping[str, str]) -> dict[str, str]:
    proofs = [name for name in ("TS_ID_TOKEN", "TS_AUDIENCE") if name in texts]
    if "TS_CLIENT_ID" not in texts:
        return dict.fromkeys(proofs, "is for a workload identity; expected TS_CLIENT_ID beside it")
    if not proofs:
        return {"TS_CLIENT_ID": "is alone; expected TS_ID_TOKEN or TS_AUDIENCE beside it"}
    if len(proofs) > 1:
        return {"TS_AUDIENCE": "and TS_ID_TOKEN are both given; expected one of them"}
    return {}


def _tag_problems(texts: Mapping[str, str]) -> dict[str, str]:
    makes_key = {"TS_CLIENT_SECRET", "TS_CLIENT_ID"} & texts.keys()
    if texts.get("TS_AUTHKEY", "").startswith(OAUTH_PREFIX):
        makes_key.add("TS_AUTHKEY")
    if not makes_key or texts.get("TS_TAGS", "").strip(", "):
        return {}
    # Nobody owns a node that an OAuth client or a workload identity makes: its tags do.
    return {"TS_TAGS": f"is missing; {min(makes_key)} needs a tag such as tag:guardian"}
