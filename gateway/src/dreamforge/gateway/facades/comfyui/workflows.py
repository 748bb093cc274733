"""A workflow of a client becomes a job, and jobs are found by the ids of their clients."""

import copy
import re
from collections.abc import Collection, Iterable
from typing import Any

from starlette.requests import Request

from dreamforge.contracts.errors import InvalidInput, LimitReached
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.request.workflow import Workflow
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.comfyui.graph import graph_to_keep, read_graph
from dreamforge.gateway.facades.comfyui.history import Row
from dreamforge.gateway.facades.comfyui.names import ArtifactName, UploadName, read_name
from dreamforge.gateway.facades.comfyui.refusals import Refusals, refused
from dreamforge.gateway.facades.comfyui.translate import MaskSource, Translation, located, translate
from dreamforge.gateway.http.errors import WorkflowRefused
from dreamforge.gateway.http.problems import problem_of
from dreamforge.gateway.routes.common import dependencies_of

URGENT, USUAL = 9, 5
CLIENT_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def key_of_prompt(prompt_id: str) -> str:
    """The idempotency key of a prompt whose id its client has made."""
    return f"comfyui {prompt_id}"


async def submit_workflow(
    request: Request,
    prompt: object,
    *,
    targets: Iterable[str] | None = None,
    client_id: str | None = None,
    prompt_id: str | None = None,
    key: str | None = None,
    urgent: bool = False,
) -> str:
    """The id of the job that a workflow becomes. Errors: WorkflowRefused, those of `runs.start`."""
    graph = read_graph(prompt, targets)
    assert isinstance(prompt, dict)
    kept = graph_to_keep(prompt, dependencies_of(request).limits.body_bytes)
    translation = translate(graph, dict(dependencies_of(request).models()))
    workflow = Workflow(graph=kept, outputs=translation.outputs, client_id=client_id, prompt_id=prompt_id)
    try:
        fields = await _with_images(request, translation)
        fields["priority"] = URGENT if urgent else USUAL
        named = key or (key_of_prompt(prompt_id) if prompt_id else None)
        return await runs.start(request, fields, named, workflow=workflow, followed=False)
    except WorkflowRefused:
        raise
    except (InvalidInput, LimitReached) as error:
        problem = problem_of(error)
        places = {each.pointer.removeprefix("/"): each.detail for each in problem.errors if each.pointer}
        told = located(translation, graph, places)
        if told is None:
            raise
        raise told from error


async def _with_images(request: Request, translation: Translation) -> dict[str, Any]:  # Any: JSON
    """All fields of a job, with the images that its workflow names.

    Errors: InvalidRequest, WorkflowRefused, those of an upload.
    """
    found = copy.deepcopy(dict(translation.fields))
    for place, name in translation.images.items():
        _set(found, place, (await _hash_of(request, name, translation, place)).sha256)
    if translation.size is not None:
        sha256 = (await _hash_of(request, translation.size.name, translation, "width_px")).sha256
        size_px = translation.size.size_px(await runs.image_size(request, "width_px", sha256))
        found["width_px"], found["height_px"] = size_px
    if translation.mask is not None:
        found["mask_image"] = await _mask(request, translation.mask, translation)
    return found


def _set(fields: dict[str, Any], place: str, value: str) -> None:
    """Put a value where a path of names and places in lists leads."""
    *inner, last = place.split("/")
    at: Any = fields  # Any: JSON
    for step in inner:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = value


async def _hash_of(request: Request, text: str, translation: Translation, place: str) -> UploadName:
    match read_name(text):
        case UploadName() as name:
            return name
        case ArtifactName(artifact_id):
            sha256 = await runs.artifact_hash(request, artifact_id)
            if sha256 is not None:
                return UploadName(sha256)
    node_id, name_of_input = translation.places[place]
    refusals = Refusals({})
    said = f"{name_of_input}: there is no image {text[:80]!r}: use the name that /upload/image has answered"
    refusals.add(node_id, "custom_validation_failed", name_of_input, said)
    raise refusals.error()


async def _mask(request: Request, mask: MaskSource, translation: Translation) -> str:
    name = await _hash_of(request, mask.name, translation, "mask_image")
    if not mask.by_alpha and mask.grow_px is None:
        return name.sha256
    sha256 = name.mask_sha256 or name.sha256 if mask.by_alpha else name.sha256
    return await runs.mask_from(request, sha256, by_alpha=mask.by_alpha, grow_px=mask.grow_px)


async def rows_of(request: Request, statuses: Collection[Status], limit: int, offset: int = 0) -> list[Row]:
    """Workflows of the sender's tenant, newest first, as of now. Errors: DependencyAway, ProjectionBehind."""
    return [*await runs.workflow_rows(request, statuses=statuses, limit=limit, offset=offset)]


async def row_of(request: Request, prompt_id: str, statuses: Collection[Status]) -> Row | None:
    """One of them, by the id of its client or of its job, if it has one of these states."""
    if UUID.fullmatch(prompt_id) is None:
        return None
    for job_id in (prompt_id, runs.job_id_of_key(request, key_of_prompt(prompt_id))):
        found = await runs.workflow_rows(request, statuses=statuses, limit=1, job_id=job_id)
        if found:
            return found[0]
    return None


def text_field(fields: dict[str, Any], name: str, pattern: re.Pattern[str], what: str) -> str | None:
    """An optional text of a body. Errors: WorkflowRefused."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise refused(f"invalid_{name}", f"{name} cannot be read", f"it must be {what}")
    return value
