"""Makes the jobs of a batch: templates and grid are expanded, each job is checked, all are appended together."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from dreamforge.contracts.errors import IdempotencyConflict, InvalidInput, JobWasErased
from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.jobs.decisions import RequestJob
from dreamforge.contracts.log.actor import Actor
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.request.batch import BatchPlace, Values, expand
from dreamforge.contracts.request.image_size import ImageSizeNeeded
from dreamforge.contracts.tenants import UNCONFIGURED
from dreamforge.gateway.batches.body import BatchSubmission
from dreamforge.gateway.batches.template_process import Task, TemplateProcesses
from dreamforge.gateway.batches.wildcards import read_wildcards
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer
from dreamforge.gateway.http.problems import problem_of
from dreamforge.gateway.quotas.tenant_quotas import Admission
from dreamforge.gateway.submit.accept import SEED_BITS, SubmissionContext, accept, fingerprint, parse, seed_of
from dreamforge.gateway.submit.capacity import require_fit
from dreamforge.gateway.submit.submit import SubmissionServices
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.event_store import JobOutcome

# Every so many jobs other requests are answered: to resolve one takes some 0.1 ms.
JOBS_AT_ONCE = 20
WILDCARD = "__"


class BatchServices(SubmissionServices, Protocol):
    """What a batch needs beside what a job needs."""

    @property
    def templates(self) -> TemplateProcesses: ...
    @property
    def wildcards_dir(self) -> Path | None: ...
    @property
    def wildcards_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """A batch in the log; `outcome` is that of its first job, without events if the batch existed before."""

    batch_id: str
    jobs: int
    outcome: JobOutcome


@dataclass(frozen=True, slots=True)
class Sender:
    """Who submits: `sees` is whose images may be named, None for all."""

    tenant: str
    sees: str | None
    key: str | None
    traceparent: str
    actor: Actor


async def submit_batch(services: BatchServices, body: bytes, sender: Sender) -> SubmittedBatch:
    """Append the requests of all jobs, or of none. With a key the same body is the same batch, forever.

    Errors: InvalidRequest (where in the body), TemplateRefused, BatchTooLarge, QueueFull, QuotaExceeded,
    IdempotencyConflict, DependencyAway.
    """
    batch_id = ids.batch_id_for(sender.tenant, sender.key)
    if sender.key is not None and (repeat := await _repeat(services, batch_id, body, sender.tenant)) is not None:
        return repeat
    made = await _expanded(services, body, sender, batch_id)
    with services.quotas.submission() as admission:
        commands = await made.admit(admission)
        outcome = await services.store.request_together(commands, traceparent=sender.traceparent, actor=sender.actor)
        if outcome.events:
            admission.recorded(outcome.version)
    return SubmittedBatch(batch_id, len(commands), outcome)


@dataclass(frozen=True, slots=True)
class PreviewedBatch:
    """The jobs that a batch would have, in their order. `template_seed` is that of its random prompts; None: none."""

    commands: tuple[RequestJob, ...]
    template_seed: int | None

    @property
    def pixel_steps(self) -> int:
        return sum(command.request.pixel_steps for command in self.commands)

    @property
    def chosen(self) -> tuple[Values, ...]:
        """What each job is given by the templates and the grid."""
        return tuple(command.batch.chosen for command in self.commands if command.batch is not None)


async def preview_batch(services: BatchServices, body: bytes, sender: Sender) -> PreviewedBatch:
    """What `submit_batch` would make of a body: checked as that is, quotas too, and neither recorded nor counted.

    Errors: as `submit_batch`, without those of a key.
    """
    sender = replace(sender, key=None)
    made = await _expanded(services, body, sender, ids.batch_id_for(sender.tenant, None))
    with services.quotas.submission() as admission:
        return PreviewedBatch(tuple((await made.admit(admission)).values()), made.template_seed)


async def _expanded(services: BatchServices, body: bytes, sender: Sender, batch_id: str) -> "_ExpandedBatch":
    """Errors: InvalidRequest (where in the body), TemplateRefused, BatchTooLarge."""
    submission = parse(body, BatchSubmission)
    submission.check(services.limits)
    given_seed = submission.template_seed
    template_seed = (ids.new_seed() if given_seed is None else given_seed) if submission.samples else None
    prompts = await _prompts(services, submission, template_seed or 0)
    chosen = expand(prompts, submission.axes(), services.limits.batch_jobs)
    places = tuple(
        BatchPlace(
            batch_id=batch_id,
            index=index,
            jobs=len(chosen),
            chosen=each,
            batch=submission.recorded(template_seed) if index == 0 else None,
        )
        for index, each in enumerate(chosen)
    )
    maker = _Maker(services, submission, sender, fingerprint(body))
    return _ExpandedBatch(services, sender, batch_id, places, template_seed, maker)


@dataclass(frozen=True, slots=True)
class _ExpandedBatch:
    """A batch of which the templates and the grid are expanded, and no job is checked yet."""

    services: BatchServices
    sender: Sender
    batch_id: str
    places: tuple[BatchPlace, ...]
    template_seed: int | None
    maker: "_Maker"

    async def admit(self, admission: Admission) -> dict[str, RequestJob]:
        """The command of each job by its id, if there is room for all.

        Errors: InvalidRequest, QueueFull, QuotaExceeded, DependencyAway.
        """
        quotas, tenant = self.services.quotas, self.sender.tenant
        await quotas.require_open_job(tenant, admission, len(self.places))
        commands = await self.maker.commands(self.batch_id, self.places)
        work = sum(command.request.pixel_steps for command in commands.values())
        await quotas.require_pixel_steps(tenant, work, admission)
        return commands


async def _repeat(services: BatchServices, batch_id: str, body: bytes, tenant: str) -> SubmittedBatch | None:
    """The batch that this key has made before. Errors: IdempotencyConflict where another body has made it."""
    job_id = ids.job_id_in(batch_id, 0)
    loaded = await services.store.load(job_id)
    if not loaded.version:
        return None
    if loaded.state.hidden:
        raise JobWasErased(job_id=job_id)
    if loaded.state.tenant != tenant or loaded.state.fingerprint != fingerprint(body):
        raise IdempotencyConflict(job_id=job_id)
    requested = loaded.history[0]
    jobs = requested.event.batch.jobs if isinstance(requested.event, JobRequested) and requested.event.batch else 1
    version = max(loaded.version, requested.sequence + jobs - 1)  # they were appended together
    return SubmittedBatch(batch_id, jobs, JobOutcome((), loaded.state, version))


async def _prompts(services: BatchServices, submission: BatchSubmission, seed: int) -> list[dict[str, str]]:
    templates = submission.template.given()
    if not templates:
        return [{}]
    uses_wildcards = any(WILDCARD in text for text in templates.values())
    folder = services.wildcards_dir if uses_wildcards else None
    wildcards = await asyncio.to_thread(read_wildcards, folder, services.wildcards_bytes)
    maximum = services.limits.batch_jobs
    task = Task(templates, wildcards.values, submission.samples, seed, maximum, services.limits.prompt_chars)
    return await services.templates.expand(task)


class _Maker:
    """Makes the command of each job, with what is looked up once for all of them."""

    def __init__(
        self, services: BatchServices, submission: BatchSubmission, sender: Sender, fingerprint_: str | None
    ) -> None:
        self._services, self._submission, self._sender = services, submission, sender
        self._fingerprint = fingerprint_ if sender.key is not None else None
        self._models: Mapping[str, ModelDescriptor] = services.models()
        self._image_sizes: dict[str, tuple[int, int]] = {}
        self._stored: set[tuple[str, ...]] = set()

    async def commands(self, batch_id: str, places: tuple[BatchPlace, ...]) -> dict[str, RequestJob]:
        """By id of the job. A microsecond lies between one and the next, so that their order is that of the batch."""
        now, made = clock.now(), {}
        seed = self._first_seed(batch_id)
        for place in places:
            job_id = ids.job_id_in(batch_id, place.index)
            command = await self._command(job_id, place, now + timedelta(microseconds=place.index), seed)
            made[job_id] = command
            seed = self._next_seed(seed, command)
            if place.index % JOBS_AT_ONCE == JOBS_AT_ONCE - 1:
                await asyncio.sleep(0)
        return made

    def _first_seed(self, batch_id: str) -> int | None:
        """None: what the request has is no seed, which is found when its first job is checked."""
        given = self._submission.request.get("seed")
        if given is None:
            return seed_of(batch_id) if self._sender.key is not None else ids.new_seed()
        return given if isinstance(given, int) else None

    def _next_seed(self, seed: int | None, command: RequestJob) -> int | None:
        if seed is None:
            return None
        usual = "different" if self._submission.samples else "same"
        step = command.request.images if (self._submission.seeds or usual) == "different" else 0
        following: int = (seed + step) % (1 << SEED_BITS)
        return following

    async def _command(self, job_id: str, place: BatchPlace, now: datetime, seed: int | None) -> RequestJob:
        """Errors: InvalidRequest, with the place in the body of the batch."""
        services, sender = self._services, self._sender
        fields = {**self._submission.request, **({} if seed is None else {"seed": seed}), **place.chosen}
        try:
            determinism = services.tenants().get(sender.tenant, UNCONFIGURED).determinism
            context = SubmissionContext(job_id, now, sender.tenant, None, 0, determinism)
            command = await self._accepted(fields, context)
            require_fit(needs_of(command.request), self._models, services.heartbeats().values())
            if command.request.uploads not in self._stored:
                await services.uploads.require(command.request, sender.sees)
                self._stored.add(command.request.uploads)
        except InvalidInput as error:
            raise self._refusal(error, place) from None
        return replace(command, idempotency_key=sender.key, fingerprint=self._fingerprint, batch=place)

    async def _accepted(self, fields: Values, context: SubmissionContext) -> RequestJob:
        services, body = self._services, json.dumps(fields).encode()
        known: dict[str, Any] = {"schema": services.schema, "models": self._models, "limits": services.limits}
        try:
            return accept(body, context, **known, image_sizes=self._image_sizes)
        except ImageSizeNeeded as needed:
            size_px = await services.uploads.size_of(needed.field, needed.sha256, self._sender.sees)
            self._image_sizes[needed.sha256] = size_px
            return accept(body, context, **known, image_sizes=self._image_sizes)

    def _refusal(self, error: InvalidInput, place: BatchPlace) -> InvalidRequest:
        """What is wrong with one job, said of the batch: which job, and where in the body."""
        which = f"job {place.index + 1} of {place.jobs}"
        if isinstance(error, InvalidRequest):
            found = error.violations
        else:
            found = problem_of(error).errors or (Violation(str(error), ""),)
        return InvalidRequest(
            violations=tuple(Violation(f"{each.detail} ({which})", self._moved(each.pointer or "")) for each in found)
        )

    def _moved(self, place: str) -> str:
        name, *rest = place.removeprefix("/").split("/")
        return pointer((*self._submission.place_of(name), *rest)) if name else pointer(("request",))
