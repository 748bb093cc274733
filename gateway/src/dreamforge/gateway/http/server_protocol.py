"""uvicorn's HTTP protocol with two additions: a hard close that a response can request, and problem documents."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dreamforge.gateway.http.problems import MEDIA_TYPE, Problem

# ASGI extension: a function that closes the connection at once, dropping what the peer has not read.
ABORT = "dreamforge.abort"


class ForgeProtocol(HttpToolsProtocol):
    """The connection of a slow client can be aborted: `transport.close()` would wait until that client reads on."""

    def on_message_begin(self) -> None:
        """Offer the extension to the application."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # Any: extensions are the application's own
        scope["extensions"] = {ABORT: self.transport.abort}

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP get a problem document too."""
        body = Problem(400, "bad_http", "The request is not HTTP", msg).body()
        head = (f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}", "connection: close", "", "")
        self.transport.write(STATUS_LINE[400] + "\r\n".join(head).encode() + body)
        self.transport.close()
