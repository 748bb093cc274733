"""Where clients know passwords only, a credential is taken as one: there, and nowhere else."""

import base64
import json
from dataclasses import dataclass, field

import pytest
from starlette.types import Message, Receive, Scope, Send

from dreamforge.contracts import access
from dreamforge.contracts.access import Identity
from dreamforge.contracts.errors import ForgeError
from dreamforge.gateway.facades import ERROR_SHAPES
from dreamforge.gateway.http.authentication import Authentication
from dreamforge.gateway.http.errors import NotAuthenticated
from dreamforge.gateway.http.middleware import RequestMiddleware

USER = Identity("k", "a", frozenset((access.Scope.READ,)))


@dataclass
class OneKey:
    """Knows one credential, and notes what is tried."""

    tried: list[str] = field(default_factory=list)

    async def identity_of(self, credential: str, *, in_cookie: bool) -> Identity:
        assert not in_cookie
        self.tried.append(credential)
        if credential != "forge_key":
            raise NotAuthenticated(reason="the API key is unknown")
        return USER

    def used(self, scope: Scope, identity: Identity) -> None: ...
    def refused(self, scope: Scope, credential: str, error: ForgeError) -> None: ...


async def ask(path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    keys = OneKey()
    asked = RequestMiddleware(Authentication(app, keys, lambda _: None, keys), error_shapes=ERROR_SHAPES)
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b""}
    await asked({**scope, "headers": [(b"authorization", authorization.encode())]}, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("path", ["/sdapi/v1/options", "/controlnet/model_list"])
@pytest.mark.parametrize("authorization", [basic("me:forge_key"), basic("k:forge_key"), "Bearer forge_key"])
async def test_a_key_is_taken_as_a_password(path: str, authorization: str) -> None:
    assert (await ask(path, authorization))[0] == 204


@pytest.mark.parametrize(
    "authorization", ["", basic("me:forge_other"), basic("forge_key"), basic(":"), "Basic ?", "Basic"]
)
async def test_a_refusal_says_how_to_authenticate(authorization: str) -> None:
    status, headers, body = await ask("/sdapi/v1/options", authorization)
    assert (status, headers["www-authenticate"].partition(" ")[0]) == (401, "Basic")
    assert json.loads(body).keys() == {"error", "detail", "body", "errors"}


async def test_nowhere_else_is_a_password_taken() -> None:
    status, headers, _ = await ask("/v1/jobs", basic("me:forge_key"))
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
