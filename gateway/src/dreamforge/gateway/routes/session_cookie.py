"""The cookies of a browser that signs in: no script reads them, and no other site's page has them sent with a write."""

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from dreamforge.gateway.http.authentication import COOKIE, OIDC_START_PATH
from dreamforge.gateway.http.root_path import root_of


@dataclass(frozen=True, slots=True)
class Cookie:
    """`path` is below the prefix of the gateway."""

    name: str
    path: str
    same_site: Literal["strict", "lax"]

    def set(self, request: Request, answer: Response, value: str, seconds: float) -> None:
        """Keep a value; `Secure` where the request came by https."""
        answer.set_cookie(
            self.name,
            value,
            max_age=int(seconds),
            httponly=True,
            samesite=self.same_site,
            secure=request.url.scheme == "https",
            path=f"{root_of(request)}{self.path}",
        )

    def delete(self, request: Request, answer: Response) -> None:
        """Forget it."""
        answer.delete_cookie(self.name, httponly=True, samesite=self.same_site, path=f"{root_of(request)}{self.path}")


SESSION = Cookie(COOKIE, "/", "strict")
# The provider's page leads back here, which is a navigation from another site: a strict cookie would not come along.
PENDING = Cookie("forge_sign_in", OIDC_START_PATH, "lax")
