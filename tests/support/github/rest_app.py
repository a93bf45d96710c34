"""REST endpoints of the app itself: installations, tokens, the hook and its deliveries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.support.github import deliveries, problems, render
from tests.support.github.accounts import AccountKind, Installation
from tests.support.github.calls import Call, Reply, Route
from tests.support.github.delivery_log import Delivery


def _get_meta(call: Call) -> Reply:
    """https://docs.github.com/rest/meta/meta"""
    told: render.Json = {"verifiable_password_authentication": False}
    if call.hub.hook_ranges is not None:
        told["hooks"] = list(call.hub.hook_ranges)
    return Reply(200, told)


def _get_app(call: Call) -> Reply:
    return Reply(200, render.app(call.world, call.hub.slug))


def _list_installations(call: Call) -> Reply:
    page, headers = call.page(list(call.world.installations.values()))
    shown = [_installation(call, each) for each in page]
    return Reply(200, shown, headers)


def _get_installation(call: Call) -> Reply:
    return Reply(200, _installation(call, _find(call)))


def _get_repository_installation(call: Call) -> Reply:
    found, _ = call.world.find(f"{call.params['owner']}/{call.params['repo']}")
    installed = call.world.installation_of(found.owner) if found else None
    if found is None or installed is None or not installed.covers(found.id):
        raise problems.not_found()
    return Reply(200, _installation(call, installed))


def _get_user_installation(call: Call) -> Reply:
    """https://docs.github.com/rest/apps/apps#get-a-user-installation-for-the-authenticated-app"""
    return _account_installation(call, "User")


def _get_organization_installation(call: Call) -> Reply:
    """https://docs.github.com/rest/apps/apps#get-an-organization-installation-for-the-authenticated-app"""
    return _account_installation(call, "Organization")


def _account_installation(call: Call, kind: AccountKind) -> Reply:
    account = call.world.accounts.get(call.params["login"].lower())
    installed = call.world.installation_of(account) if account else None
    if account is None or account.kind != kind or installed is None:
        raise problems.not_found()
    return Reply(200, _installation(call, installed))


def _create_token(call: Call) -> Reply:
    installation = _find(call)
    if installation.suspended_at is not None:
        raise problems.ApiProblem(403, "This installation has been suspended")
    token = call.hub.tokens.issue(
        installation,
        call.world.now(),
        permissions=_narrowed_permissions(call, installation),
        repository_ids=_narrowed_repositories(call, installation),
    )
    body: render.Json = {
        "token": token.value,
        "expires_at": render.timestamp(token.expires_at),
        "permissions": dict(token.permissions),
        "repository_selection": installation.repository_selection,
    }
    if token.repository_ids is not None:
        body["repository_selection"] = "selected"
        body["repositories"] = [
            render.repository(call.world, call.world.repositories[each])
            for each in sorted(token.repository_ids)
        ]
    return Reply(201, body)


def _narrowed_permissions(call: Call, installation: Installation) -> dict[str, str] | None:
    asked = call.body.get("permissions")
    if not isinstance(asked, dict):
        return None
    for name, level in asked.items():
        given = installation.permissions.get(name)
        if given is None or (level, given) == ("write", "read"):
            raise problems.ApiProblem(
                422, "The permissions requested are not granted to this installation."
            )
    # reading metadata cannot be given up
    return {"metadata": "read", **asked}


def _narrowed_repositories(call: Call, installation: Installation) -> frozenset[int] | None:
    names, ids = call.body.get("repositories"), call.body.get("repository_ids")
    if not isinstance(names, list) and not isinstance(ids, list):
        return None
    chosen = set(_ids_by_name(call, installation, names if isinstance(names, list) else ()))
    chosen.update(each for each in (ids if isinstance(ids, list) else ()) if isinstance(each, int))
    if not all(installation.covers(each) for each in chosen):
        raise problems.ApiProblem(
            422,
            "There is at least one repository that does not exist or is not accessible to the"
            " parent installation.",
        )
    return frozenset(chosen)


def _ids_by_name(call: Call, installation: Installation, names: Iterable[object]) -> Iterable[int]:
    for name in names:
        found, _ = call.world.find(f"{installation.account.login}/{name}")
        yield found.id if found else -1


def _get_hook_config(call: Call) -> Reply:
    return Reply(200, call.hub.hook.config())


def _set_hook_config(call: Call) -> Reply:
    for name in ("url", "secret", "content_type", "insecure_ssl"):
        value = call.body.get(name)
        if isinstance(value, str):
            setattr(call.hub.hook, name, value)
    # No ping follows, as on GitHub: https://github.com/octokit/webhooks/issues/3
    return _get_hook_config(call)


def _list_deliveries(call: Call) -> Reply:
    status = call.query.get("status")
    if status not in (None, "success", "failure"):
        raise problems.ApiProblem(422, f"Invalid status: {status}")
    page, following = call.hub.hook.log.page(
        cursor=_cursor(call.query.get("cursor")),
        size=min(100, max(1, call.number("per_page", 30))),
        status=status,
    )
    links = [("next", {"cursor": f"v1_{following}"})] if following else []
    return Reply(200, [each.item() for each in page], call.links(links))


def _cursor(value: str | None) -> int | None:
    if value is None:
        return None
    number = value.removeprefix("v1_")
    if not number.isdecimal():
        raise problems.ApiProblem(422, "Invalid cursor")
    return int(number)


def _get_delivery(call: Call) -> Reply:
    return Reply(200, _delivery(call).full())


def _redeliver(call: Call) -> Reply:
    again = _delivery(call)
    parcel = deliveries.make_parcel(again.event, again.body, guid=again.guid)
    call.hub.deliver_soon(parcel, True)
    return Reply(202, {})


def _delivery(call: Call) -> Delivery:
    found = call.hub.hook.log.get(int(call.params["delivery_id"]))
    if found is None:
        raise problems.not_found()
    return found


def _find(call: Call) -> Installation:
    found = call.world.installations.get(int(call.params["installation_id"]))
    if found is None:
        raise problems.not_found()
    return found


def _installation(call: Call, installation: Installation) -> render.Json:
    return render.installation(call.world, installation, call.hub.slug)


_ONE: Final = r"/app/installations/{installation_id:\d+}"
_DELIVERY: Final = r"/app/hook/deliveries/{delivery_id:\d+}"

ROUTES: Final = (
    Route("GET", "/meta", _get_meta, "anybody"),
    Route("GET", "/app", _get_app, "app"),
    Route("GET", "/app/installations", _list_installations, "app"),
    Route("GET", _ONE, _get_installation, "app"),
    Route("POST", f"{_ONE}/access_tokens", _create_token, "app"),
    Route("GET", "/repos/{owner}/{repo}/installation", _get_repository_installation, "app"),
    Route("GET", "/users/{login}/installation", _get_user_installation, "app"),
    Route("GET", "/orgs/{login}/installation", _get_organization_installation, "app"),
    Route("GET", "/app/hook/config", _get_hook_config, "app"),
    Route("PATCH", "/app/hook/config", _set_hook_config, "app"),
    Route("GET", "/app/hook/deliveries", _list_deliveries, "app"),
    Route("GET", _DELIVERY, _get_delivery, "app"),
    Route("POST", f"{_DELIVERY}/attempts", _redeliver, "app"),
)
