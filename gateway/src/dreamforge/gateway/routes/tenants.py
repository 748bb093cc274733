"""Tenants: their quotas, what they use of them, and their shares of the fleet. For administrators."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.quotas import WEIGHT_MAX, Quotas
from dreamforge.contracts.request.values import Determinism
from dreamforge.contracts.tenant_replies import TenantReply, TenantsReply
from dreamforge.contracts.tenants import UNCONFIGURED, ConfigureTenant, Metadata, TenantState
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import actor_of
from dreamforge.gateway.http.errors import Malformed
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.routes.common import (
    TENANT_EXPECTED,
    BoundedBodyRoute,
    TenantName,
    dependencies_of,
    is_tenant,
    quota_replies,
    reply,
)
from dreamforge.runtime import clock
from dreamforge.runtime.log.aggregate import TENANT

router = APIRouter(prefix="/v1/tenants", tags=["tenants"], route_class=BoundedBodyRoute)


class TenantChange(Quotas):
    """What changes. Left out: as it is; a quota of null: that of the installation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weight: int | None = Field(
        default=None, ge=1, le=WEIGHT_MAX, description="its share of the fleet, beside those of other tenants"
    )
    metadata: Metadata | None = Field(
        default=None, description="none: downloads are without recipes where a request does not ask for them"
    )
    determinism: Determinism | None = Field(
        default=None, description="of its requests that do not say: strict, or batched whatever their preset says"
    )


@router.get("", response_model=TenantsReply, responses=doc.problems(503))
async def list_tenants(request: Request) -> Response:
    """The tenants that were configured; every other one has the quotas of the installation and weight 1."""
    dependencies = dependencies_of(request)
    names = sorted(dependencies.tenants())
    return reply(TenantsReply(tenants=tuple([await _tenant(dependencies, name) for name in names])))


@router.get("/{tenant}", response_model=TenantReply, responses=doc.problems(400, 404, 422, 503))
async def read_tenant(request: Request, tenant: TenantName) -> Response:
    """What a tenant may use, what it uses, and its weight."""
    return reply(await _tenant(dependencies_of(request), _known_shape(tenant)))


@router.patch("/{tenant}", response_model=TenantReply, responses=doc.problems(400, 404, 413, 415, 422, 503))
async def configure_tenant(request: Request, tenant: TenantName, change: Annotated[TenantChange, Body()]) -> Response:
    """Set quotas, the weight and the downloads of a tenant. They count from the next request and the next plan on."""
    dependencies, name = dependencies_of(request), _known_shape(tenant)
    quotas = change.model_dump(include=change.model_fields_set & Quotas.model_fields.keys())
    command = ConfigureTenant(
        clock.now(), quotas, change.weight, metadata=change.metadata, determinism=change.determinism
    )
    said: dict[str, Any] = {"traceparent": context_of(request).traceparent, "actor": actor_of(request)}  # Any: options
    outcome = await dependencies.store.handle(TENANT, name, command, **said)
    return reply(await _tenant(dependencies, name, outcome.state))


def _known_shape(tenant: str) -> str:
    """Errors: Malformed."""
    if not is_tenant(tenant):
        raise Malformed(parameter="tenant", expected=TENANT_EXPECTED)
    return tenant


async def _tenant(dependencies: Dependencies, name: str, state: TenantState | None = None) -> TenantReply:
    """`state`: after a write that this gateway may not have read back yet."""
    state = state or dependencies.tenants().get(name, UNCONFIGURED)
    quotas = await quota_replies(dependencies, name, state)
    return TenantReply(
        tenant=name, weight=state.weight, metadata=state.metadata, determinism=state.determinism, quotas=quotas
    )
