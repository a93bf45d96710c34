"""The one error that REST and GraphQL handlers raise, and how either interface shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Detail = Mapping[str, str]


class ApiProblem(Exception):
    """GitHub refuses a request.

    Args:
        status: HTTP status of a REST answer (GraphQL always answers 200).
        message: GitHub's own words.
        kind: `type` of the error in a GraphQL answer.
        errors: `errors` of a REST answer, for 422.
        headers: more headers for the REST answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "UNPROCESSABLE",
        errors: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The REST answer."""
        body: dict[str, object] = {"message": self.message}
        if self.errors:
            body["errors"] = [dict(error) for error in self.errors]
        return body | {
            "documentation_url": "https://docs.github.com/rest",
            "status": str(self.status),
        }


def not_found() -> ApiProblem:
    """What does not exist and what may not be seen look the same."""
    return ApiProblem(404, "Not Found", kind="NOT_FOUND")


def forbidden() -> ApiProblem:
    """The installation lacks a permission."""
    return ApiProblem(403, "Resource not accessible by integration", kind="FORBIDDEN")


def address_refused(login: str) -> ApiProblem:
    """The organization has an IP allow list without the caller's address."""
    return ApiProblem(
        403,
        "Although you appear to have the correct authorization credentials, the"
        f" `{login}` organization has an IP allow list enabled, and your IP address is not"
        " permitted to access this resource.",
        kind="FORBIDDEN",
    )


def archived() -> ApiProblem:
    """A write to an archived repository."""
    return ApiProblem(403, "Repository was archived so is read-only.")


def empty_repository() -> ApiProblem:
    """A git endpoint was asked about a repository without commits."""
    return ApiProblem(409, "Git Repository is empty.", kind="NOT_FOUND")


def validation_failed(resource: str, message: str) -> ApiProblem:
    """422 with GitHub's free-text ("custom") detail."""
    detail = {"resource": resource, "code": "custom", "message": message}
    return ApiProblem(422, "Validation Failed", errors=[detail])


def invalid_field(resource: str, field: str, code: str = "invalid") -> ApiProblem:
    """422 that names a field; `code` is `invalid`, `missing_field`, …"""
    detail = {"resource": resource, "field": field, "code": code}
    return ApiProblem(422, "Validation Failed", errors=[detail])
