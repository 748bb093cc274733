"""Every error of the tree has its problem document, and none says too much."""

import json
from collections.abc import Iterator

import pytest

from dreamforge.contracts import errors as e
from dreamforge.contracts.quotas import Quota
from dreamforge.contracts.request import errors as r
from dreamforge.gateway.http import errors as own
from dreamforge.gateway.http.errors import Violation
from dreamforge.gateway.http.problems import http_problem, problem_of

EXAMPLES: tuple[tuple[e.ForgeError, int], ...] = (
    (own.NotJson(reason="x"), 400),
    (own.Malformed(parameter="cursor", expected="x"), 400),
    (own.BodyTooLarge(maximum_bytes=1), 413),
    (own.UnsupportedMedia(given="text/plain", allowed=("image/png",)), 415),
    (own.WorkflowRefused(kind="k", message="m", reason="r", node_errors={}), 400),
    (own.BadPicture(reason="x"), 422),
    (own.NothingToImport(programs=("A1111",)), 422),
    (e.JobWasErased(job_id="x"), 410),
    (own.UnknownUpload(field="init_image", value="0" * 64), 422),
    (own.UploadNotFound(sha256="x"), 404),
    (own.InvalidRequest(violations=(Violation("x", "/a"),)), 422),
    (own.PageNotFound(hint="x"), 404),
    (own.SequenceNotGiven(wanted=2, newest=1), 409),
    (own.SequenceOfOtherLog(given="0", log="1"), 409),
    (own.ProjectionBehind(wanted=2, reached=1), 503),
    (own.StreamsFull(maximum=1), 503),
    (own.JobNotCompleted(job_id="J", ended="failed", reason="no"), 422),
    (own.StillRunning(job_id="J", seconds=600), 504),
    (own.UploadsFull(maximum=16), 503),
    (own.WebhooksOff(), 409),
    (own.WebhooksFull(maximum=100), 429),
    (e.WebhookNotFound(webhook_id="x"), 404),
    (own.NotAuthenticated(reason="the request has no API key"), 401),
    (own.TokenRefused(reason="the token is expired"), 401),
    (own.RunnerRefused(reason="x"), 401),
    (own.ObjectRefused(key="images/x", reason="y"), 422),
    (own.SignInUnknown(), 400),
    (own.CsrfTokenNeeded(), 403),
    (own.ScopeNeeded(scope="admin"), 403),
    (e.UnknownKey(key_id="x"), 404),
    (own.HostNotAllowed(host="rebound.example"), 421),
    (own.CrossOrigin(origin="https://other.example"), 403),
    (own.GatewayPortInUse(host="h", port=1, reason="x"), 500),
    (e.SizeNotSupported(height_px=1, width_px=1, multiple_px=8), 422),
    (r.UnknownModel(model_id="x", known=("m",)), 422),
    (r.UnknownPreset(preset="x", model_id="m", known=("p",)), 422),
    (r.NotAPipeline(model_id="x", kind="lora", known=("m",)), 422),
    (r.NotAllowed(field="sampler", value="x", model_id="m", allowed=("y",)), 422),
    (r.FieldNeeded(field="init_image", because="x"), 422),
    (r.BatchTooLarge(jobs=200, maximum=100), 422),
    (r.TemplateRefused(field="template/prompt", reason="x"), 422),
    (e.BatchNotFound(batch_id="x"), 404),
    (r.UnknownLora(field="prompt", value="inc", alike=("ink",), registered=3), 422),
    (r.LoraTagUnsupported(field="prompt", value="<lora:a:1:2>"), 422),
    (r.UnknownAsset(field="loras/0/model_id", value="x", kind="lora", known=()), 422),
    (r.AssetMismatch(field="loras/0/model_id", value="x", asset_family="a", model_id="m", model_family="b"), 422),
    (r.NamedTwice(field="loras/1/model_id", value="x"), 422),
    (
        r.ModelTooLarge(
            model_id="m", width_px=8, height_px=8, needed_bytes=2, largest_bytes=1, runner_id="r", tier="full"
        ),
        422,
    ),
    (r.QuantisationUnavailable(model_id="m", quantisation="int8", runner_id="r", because="x"), 422),
    (r.OutOfBounds(field="width_px", value=1, minimum=8, maximum=9), 422),
    (e.JobNotFound(job_id="x"), 404),
    (e.ArtifactNotFound(artifact_id="x"), 404),
    (e.IdempotencyConflict(job_id="x"), 409),
    (e.WebhookKeyUsed(webhook_id="x", why="which was deleted"), 409),
    (e.ImagesMissing(attempt=1, missing=(1, 2)), 409),
    (e.StaleAttempt(attempt=1, current_attempt=2, status="running"), 409),
    (e.VersionConflict(subject="x", expected_version=1), 409),
    (e.MalformedEvent(subject="x", reason="y"), 500),
    (e.DependencyAway(dependency="postgres", reason="password of 10.0.0.1"), 503),
    (e.ArchiveBroken(reason="object archive/1.jsonl.gz: it is missing"), 503),
    (e.BrokerUnfit(reason="x"), 500),
    (e.NotOurs(what="stream JOBS", found="x", remedy="y"), 500),
    (e.LogReplaced(stream="JOBS", reason="x"), 500),
    (e.OtherLog(what="the read tables", reason="x"), 503),
    (e.DatabaseUnfit(reason="x"), 500),
    (e.EventTooLarge(subject="x", size_bytes=1), 500),
    (e.QueueFull(open_jobs=2, maximum=1), 429),
    *(
        (e.QuotaExceeded(quota=each, tenant="t", limit=3, used=2, wanted=2, retry_after_seconds=9), 429)
        for each in (*Quota, "another")
    ),
)


def leaves(kind: type[e.ForgeError]) -> Iterator[type[e.ForgeError]]:
    below = kind.__subclasses__()
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


def test_the_examples_cover_the_tree() -> None:
    known = {kind for kind in leaves(e.ForgeError) if kind.__module__ in (e.__name__, r.__name__, own.__name__)}
    assert known == {type(error) for error, _ in EXAMPLES}


@pytest.mark.parametrize(("error", "status"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_error_has_its_document(error: e.ForgeError, status: int) -> None:
    problem = problem_of(error)
    document = json.loads(problem.body(instance="/x", request_id="r"))
    assert problem.status == document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert (document["instance"], document["request_id"]) == ("/x", "r")
    assert document["type"].endswith(document["code"])
    assert ("Retry-After" in problem.headers) == (status in (429, 503))


def test_the_words_of_a_dependency_stay_inside() -> None:
    problem = problem_of(e.DependencyAway(dependency="postgres", reason="password of 10.0.0.1"))
    assert b"password" not in problem.body()
    assert json.loads(problem.body())["dependency"] == "postgres"


def test_fields_of_the_error_are_members_and_point_into_the_body() -> None:
    document = json.loads(problem_of(r.OutOfBounds(field="pixels", value=9, minimum=1, maximum=8)).body())
    assert (document["field"], document["maximum"]) == ("pixels", 8)
    assert [each["pointer"] for each in document["errors"]] == ["/width_px", "/height_px"]


def test_the_frameworks_own_refusals() -> None:
    assert http_problem(404, "x").code == "no_such_route"
    assert http_problem(418, "x").code == "http_418"
