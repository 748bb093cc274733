"""From rows of the read tables to replies. Pure."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from dreamforge.contracts.replies import ArtifactReply, JobReply, JobSummary, Links, WarningReply

_SUMMARY = tuple(name for name in JobSummary.model_fields if name not in ("links", "step"))
_WARNING = tuple(WarningReply.model_fields)
_ARTIFACT = tuple(name for name in ArtifactReply.model_fields if name not in ("url", "thumbnail_url"))


def _fields(row: RowMapping, root: str) -> dict[str, Any]:  # Any: columns of every type
    return {name: row[name] for name in _SUMMARY} | {"links": Links.of(row["job_id"], root), "step": row.get("step")}


def job_summary(row: RowMapping, root: str) -> JobSummary:
    """A row of `queries.page` or `queries.job_decisions`; `root` is the prefix of every link."""
    return JobSummary.model_validate(_fields(row, root))


def job_reply(row: RowMapping, root: str) -> JobReply:
    """A row of `queries.job`; `root` is the prefix of every link."""
    pictures = tuple(_artifact(each, root) for each in row["artifacts"] or ())
    # Unused fields are not in a payload, and later ones are not in a reply.
    warnings = [{name: each[name] for name in _WARNING if name in each} for each in row["warnings"] or ()]
    more = {"attempts": row["attempts"] or (), "warnings": warnings, "artifacts": pictures}
    return JobReply.model_validate(_fields(row, root) | more)


def _artifact(row: Mapping[str, Any], root: str) -> ArtifactReply:
    url = f"{root}/v1/artifacts/{row['artifact_id']}"
    own = {name: row[name] for name in _ARTIFACT}
    return ArtifactReply.model_validate(own | {"url": url, "thumbnail_url": f"{url}/thumbnail"})
