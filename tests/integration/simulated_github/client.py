"""What these tests use: a bare API client, a webhook receiver, a clock."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import jwt
from aiohttp import web

from tests.support.github.repository import Repository
from tests.support.github.server import SimulatedGitHub

BRANCH = "repo-guardian/add-missing-files"
COMMIT = """
mutation Commit($input: CreateCommitOnBranchInput!) {
  createCommitOnBranch(input: $input) {
    commit {
      oid
      author { name email user { login } }
      committer { name email }
      signature { isValid wasSignedByGitHub state signer { login } }
      parents(first: 2) { nodes { oid } }
    }
    ref { name }
  }
}
"""


@dataclass(slots=True)
class Clock:
    """A clock that moves only when told."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at


@dataclass(slots=True)
class Answer:
    """Status, headers and JSON of one API answer."""

    status: int
    headers: Any
    body: Any


class Client:
    """A bare API client with the credential it is given."""

    def __init__(self, github: SimulatedGitHub, session: aiohttp.ClientSession) -> None:
        self.github = github
        self.session = session
        self.credential = ""

    def app_jwt(self, **claims: object) -> str:
        """The app's JWT, valid for ten minutes unless `claims` say otherwise."""
        now = int(self.github.world.now().timestamp())
        usual = {"iat": now - 60, "exp": now + 540, "iss": str(self.github.app_id)}
        return jwt.encode(usual | claims, self.github.private_key_pem, algorithm="RS256")

    async def log_in(self, owner: str = "acme") -> str:
        """Use a new installation token from now on."""
        installation = self.github.world.installation_of(self.github.world.accounts[owner])
        assert installation is not None
        self.credential = self.app_jwt()
        answer = await self.call("POST", f"/app/installations/{installation.id}/access_tokens")
        assert 201 == answer.status
        self.credential = answer.body["token"]
        return self.credential

    async def call(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> Answer:
        """One API call; redirects are not followed."""
        url = path if path.startswith("http") else self.github.api_url + path
        sent = {"Authorization": f"Bearer {self.credential}"} | (headers or {})
        async with self.session.request(
            method, url, json=body, headers=sent, allow_redirects=False
        ) as response:
            text = await response.read()
            return Answer(
                response.status, response.headers, await response.json() if text else None
            )

    async def graphql(self, query: str, **variables: object) -> Any:
        """The answer body of a GraphQL call."""
        answer = await self.call("POST", "/graphql", {"query": query, "variables": variables})
        assert 200 == answer.status
        return answer.body

    async def commit(
        self,
        repository: Repository,
        files: dict[str, str | None],
        *,
        branch: str = BRANCH,
        expected: str | None = None,
    ) -> Any:
        """createCommitOnBranch; a None among the files deletes."""
        additions = [
            {"path": path, "contents": base64.b64encode(text.encode()).decode()}
            for path, text in files.items()
            if text is not None
        ]
        deletions = [{"path": path} for path, text in files.items() if text is None]
        return await self.graphql(
            COMMIT,
            input={
                "branch": {
                    "repositoryNameWithOwner": repository.full_name,
                    "branchName": branch,
                },
                "message": {"headline": "chore: add files", "body": "Because."},
                "expectedHeadOid": expected or repository.branches.get(branch, "0" * 40),
                "fileChanges": {"additions": additions, "deletions": deletions},
            },
        )

    async def propose(self, repository: Repository, files: dict[str, str | None]) -> Answer:
        """Branch, one commit, pull request: what repo-guardian does."""
        refs = f"/repos/{repository.full_name}/git/refs"
        head = repository.head_oid
        assert (
            201
            == (await self.call("POST", refs, {"ref": f"refs/heads/{BRANCH}", "sha": head})).status
        )
        await self.commit(repository, files)
        return await self.open_pull(repository)

    async def open_pull(self, repository: Repository, head: str = BRANCH) -> Answer:
        """POST pulls."""
        body = {"title": "chore: add files", "head": head, "base": "main", "body": "why"}
        return await self.call("POST", f"/repos/{repository.full_name}/pulls", body)


class Receiver:
    """A webhook endpoint that keeps what it gets and answers what it is told."""

    def __init__(self) -> None:
        self.status = 202
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Keep the delivery."""
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, text="noted")

    @property
    def events(self) -> list[str]:
        """Names of the events so far."""
        return [headers["X-GitHub-Event"] for headers, _ in self.got]
