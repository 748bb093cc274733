"""The replies of the gateway about tenants: who they are, what they may use and have done, and what is erased."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from dreamforge.contracts.access import Scope
from dreamforge.contracts.audit import AuditEntry
from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.quotas import Quota
from dreamforge.contracts.request.values import Determinism
from dreamforge.contracts.tenants import Metadata


class ErasureReply(Value):
    """A job that is hidden, and erased for good at `erase_at` unless that is undone before."""

    job_id: str
    erase_at: datetime
    undelete: str = Field(description="POST here to undo it")


class ErasureAccepted(ErasureReply):
    """The request to erase a job is in the log, durably. `sequence` is also in the header Forge-Sequence."""

    sequence: int = Field(description="send it as Forge-Min-Sequence with a read that must see this write")


class ErasureItem(ErasureReply):
    """One of the jobs that are hidden."""

    tenant: str
    requested_at: datetime = Field(description="when the job was requested")


class TenantDeletion(Value):
    """What one request has deleted of a tenant."""

    tenant: str
    jobs: int
    uploads: int
    more: bool = Field(description="whether there are more jobs: repeat the request")


class ErasuresReply(Value):
    """Hidden jobs, the soonest to be erased first, up to a bound."""

    erasures: tuple[ErasureItem, ...]


class QuotaReply(Value):
    """One quota of a tenant."""

    quota: Quota
    limit: int | float | None = Field(description="null: no limit")
    own: bool = Field(description="false: the limit is that of the installation")
    used: int | None = Field(description="null: not counted, since there is no limit or it is a rate")
    frees_at: AwareDatetime | None = Field(description="of a quota that is used up: when it has room, if that is known")


class TenantReply(Value):
    """What a tenant may use, and its share."""

    tenant: str
    weight: int = Field(description="its share of the fleet, beside those of other tenants")
    metadata: Metadata = Field(description="none: downloads are without recipes where a request does not ask for them")
    determinism: Determinism | None = Field(description="of its requests that do not say; null: as their presets do")
    quotas: tuple[QuotaReply, ...]


class TenantsReply(Value):
    """The tenants that were configured."""

    tenants: tuple[TenantReply, ...]


class MeReply(Value):
    """Who a request comes from."""

    authentication: Literal["none", "keys", "oidc", "keys,oidc"] = Field(description="none: it asks for no credentials")
    key_id: str | None = Field(description="the key of the request")
    subject: str | None = Field(default=None, description="who signed in, as the OpenID Connect provider names them")
    tenant: str | None = Field(description="whose jobs it submits and sees; null: any")
    scopes: tuple[Scope, ...]
    quotas: tuple[QuotaReply, ...] = Field(description="of the tenant that the request acts for")
    metadata: Metadata = Field(description="what a download of its images has where `?metadata=` is left out")
    csrf_token: str | None = Field(
        default=None, description="of a session in a cookie: every write needs it in the header Forge-CSRF-Token"
    )


class AuditReply(Value):
    """Part of the audit, in the order of time."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str = Field(description="goes on after these entries, now or later")
    more: bool = Field(description="whether there are more entries now")


class SessionReply(Value):
    """How a browser can sign in here."""

    keys: bool = Field(description="POST an API key to /v1/session")
    oidc: str | None = Field(description="where the sign-in at the OpenID Connect provider begins")
