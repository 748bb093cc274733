"""The settings of sign-in by OpenID Connect: `FORGE_OIDC_*`."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from dreamforge.contracts.access import Scope
from dreamforge.gateway.identity.claims import ClaimRules, roles_of, scopes_of
from dreamforge.gateway.identity.endpoints import required_endpoint
from dreamforge.runtime.service.settings import CommonSettings

SECRET_CHARS_MIN = 32


class OidcSettings(CommonSettings):
    """Which provider is trusted, for what, and what its claims mean here."""

    oidc_issuer: str = Field(
        default="", description="URL of the OpenID Connect provider, exactly as its tokens name it in `iss`"
    )
    oidc_client_id: str = Field(default="", description="this gateway's id at the provider, for the studio's sign-in")
    oidc_client_secret: SecretStr = Field(
        default=SecretStr(""), description="its secret there; none for a public client, which PKCE protects"
    )
    oidc_audience: str = Field(
        default="", description="what bearer tokens must name in `aud`; the client id, if it is not set"
    )
    oidc_scopes: str = Field(default="openid profile", description="scopes that the sign-in asks the provider for")
    oidc_tenant_claim: str = Field(
        default="tenant",
        description="claim that names the tenant (a.b reads b within a); who has none gets a tenant of their own",
    )
    oidc_default_scopes: str = Field(
        default="read,submit", description="what every token of the provider allows here; empty: only what roles give"
    )
    oidc_roles_claim: str = Field(default="roles", description="claim that lists roles (Keycloak: realm_access.roles)")
    oidc_roles: str = Field(
        default="", description="what roles allow beyond that, as role=scope, comma-separated (forge-admins=admin)"
    )
    oidc_session_seconds: float = Field(
        default=8 * 3600, gt=0, description="how long a sign-in of the studio by OpenID Connect lasts"
    )
    oidc_timeout_seconds: float = Field(default=5.0, gt=0, description="what a request to the provider may take")
    gateway_session_secret: SecretStr = Field(
        default=SecretStr(""),
        description="at least 32 characters that all gateways share, so that each knows the sign-ins by OpenID Connect "
        "of the others; random for each start, if it is not set. A new one ends every such session",
    )

    @property
    def oidc_rules(self) -> ClaimRules:
        """What the claims of tokens mean here."""
        return ClaimRules(
            issuer=self.oidc_issuer,
            client_id=self.oidc_client_id,
            audience=self.oidc_audience or self.oidc_client_id,
            tenant_claim=self.oidc_tenant_claim,
            default_scopes=scopes_of(self.oidc_default_scopes),
            roles_claim=self.oidc_roles_claim,
            roles=roles_of(self.oidc_roles),
        )

    @field_validator("oidc_issuer")
    @classmethod
    def _is_an_issuer(cls, issuer: str) -> str:
        return required_endpoint(issuer) if issuer else issuer

    @field_validator("oidc_default_scopes")
    @classmethod
    def _admins_have_a_role(cls, scopes: str) -> str:
        if Scope.ADMIN in scopes_of(scopes):
            raise ValueError("must be of read and submit: admin is for those with a role, see FORGE_OIDC_ROLES")
        return scopes

    @field_validator("oidc_roles")
    @classmethod
    def _are_roles(cls, roles: str) -> str:
        roles_of(roles)
        return roles

    @field_validator("gateway_session_secret")
    @classmethod
    def _is_long(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value()) < SECRET_CHARS_MIN:
            raise ValueError(f"must have at least {SECRET_CHARS_MIN} characters, as `openssl rand -hex 32` makes them")
        return secret

    @model_validator(mode="after")
    def _names_an_audience(self) -> Self:
        if self.oidc_issuer and not (self.oidc_client_id or self.oidc_audience):
            raise ValueError(
                "FORGE_OIDC_ISSUER is set, and nothing says which of its tokens are for this gateway: set "
                "FORGE_OIDC_CLIENT_ID (the studio's sign-in) or FORGE_OIDC_AUDIENCE (bearer tokens only)"
            )
        return self
