"""An interface of other programs answers errors in its own shape, wherever they are found."""

import json
from collections.abc import Mapping

from starlette.types import Message, Receive, Scope, Send

from dreamforge.gateway.http.middleware import RequestMiddleware
from dreamforge.gateway.http.problems import Problem


def _shape(problem: Problem) -> Mapping[str, object]:
    return {"error": {"message": problem.detail, "code": problem.code}}


async def _broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a bug")


async def _answer(path: str, root_path: str = "") -> dict[str, object]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    app = RequestMiddleware(_broken, root_path=root_path, error_shapes={"/v1/images": _shape})
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": root_path}
    await app(scope, receive, send)
    found: dict[str, object] = json.loads(sent[1]["body"])
    return found


async def test_an_error_has_the_shape_of_the_interface_that_was_used() -> None:
    assert (await _answer("/v1/images/generations")).keys() == {"error"}
    assert (await _answer("/prefix/v1/images/generations", "/prefix")).keys() == {"error"}
    assert (await _answer("/v1/jobs"))["code"] == "internal"
