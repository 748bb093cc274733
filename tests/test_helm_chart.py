"""The Helm chart, offline: it renders for a matrix of values, and Kubernetes and PodSecurity accept what it renders."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dreamforge.cli.commands.secrets import contents
from dreamforge.cli.service_settings import kinds
from dreamforge.runtime.service.settings import declared

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "dreamforge"
HELM = Path(sys.executable).with_name("helm")
# Kinds of operators, of which there is no schema here.
CUSTOM = ("ScaledObject", "ServiceMonitor", "PrometheusRule")
MATRIX = [(), ("ci/small.yaml",), ("ci/full.yaml",)]
OLDEST, NEWEST = "1.29.0", "1.37.0"

Document = dict[str, Any]  # Any: YAML


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([HELM, *arguments], cwd=CHART, capture_output=True, text=True, check=False)


@cache
def rendered(*values: str) -> tuple[Document, ...]:
    files = [part for file in values for part in ("-f", file)]
    done = helm("template", "forge", ".", "--namespace", "images", *files)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def pods(documents: tuple[Document, ...]) -> dict[str, Document]:
    found = [each for each in documents if each["kind"] in ("Deployment", "StatefulSet", "Job")]
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in found}


def named(documents: tuple[Document, ...], kind: str, name: str) -> Document:
    (found,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def secrets(spec: Document) -> list[Document]:
    """The Secrets that a pod mounts."""
    sources = [each for volume in spec.get("volumes", ()) for each in volume.get("projected", {}).get("sources", ())]
    return [each["secret"] for each in sources]


@pytest.mark.parametrize("values", MATRIX)
def test_the_chart_has_no_fault_that_helm_knows(values: tuple[str, ...]) -> None:
    done = helm("lint", ".", "--strict", *(part for file in values for part in ("-f", file)))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", MATRIX)
def test_kubernetes_accepts_every_object(values: tuple[str, ...], version: str) -> None:
    for document in rendered(*values):
        if document["kind"] in CUSTOM or (document["metadata"]["name"] == "forge-dra" and version == OLDEST):
            continue  # claims of devices had other fields when they were new
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("values", MATRIX)
def test_pods_are_as_the_restricted_standard_asks(values: tuple[str, ...]) -> None:
    for name, spec in pods(rendered(*values)).items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
            assert container["resources"], name


@pytest.mark.parametrize("values", MATRIX)
def test_a_pod_has_the_secrets_that_it_needs_and_as_files_only(values: tuple[str, ...]) -> None:
    runners = [f"forge-{pool}-{index}" for pool in ("a100", "dra", "burst", "cpu", "gpu") for index in range(3)]
    made = contents(runners, nats="nats:4222", postgres="postgres:5432")
    for name, spec in pods(rendered(*values)).items():
        files = {item["path"] for secret in secrets(spec) for item in secret["items"]}
        assert files <= set(made), name
        assert ("nats_admin_url" in files) == ("prepare" in name)
        environment = spec["containers"][0].get("env", ())
        given = {each["value"] for each in environment if each["name"].endswith("_FILE")}
        assert {Path(path).name.replace("$(FORGE_RUNNER_ID)", f"{name}-0") for path in given} <= files, name


@pytest.mark.parametrize("values", MATRIX)
def test_pods_set_nothing_that_no_service_reads(values: tuple[str, ...]) -> None:
    known = frozenset[str]().union(*(declared(kind) for _, kind in kinds()))
    for name, spec in pods(rendered(*values)).items():
        environment = [each["name"] for each in spec["containers"][0].get("env", ())]
        assert {each for each in environment if not each.startswith("OTEL_")} <= known, name
        assert len(set(environment)) == len(environment), name


def test_no_value_holds_a_secret() -> None:
    refused = helm("template", "forge", ".", "--set", "nats.url=nats://admin:word@nats:4222")
    assert refused.returncode != 0
    assert "nats.url: Does not match pattern" in refused.stderr


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("gateway.replicas=0", "gateway.replicas"),
        ("gateway.port=3", "Additional property port is not allowed"),
        ("pools.A_B.replicas=1", "Property name of"),
        ("settings.LOG_LEVEL=DEBUG", "Property name of"),
        ("pools.a.autoscaling.enabled=true", "max is required"),
        ("tracing.sampled=0.5", "tracing.endpoint"),
    ],
)
def test_a_wrong_value_is_named(value: str, reason: str) -> None:
    refused = helm("template", "forge", ".", "--set", value)
    assert refused.returncode != 0
    assert reason in refused.stderr


def test_a_runner_keeps_its_name_and_has_time_to_finish() -> None:
    pool = named(rendered("ci/full.yaml"), "StatefulSet", "forge-a100")["spec"]["template"]["spec"]
    environment = {each["name"]: each for each in pool["containers"][0]["env"]}
    assert environment["FORGE_RUNNER_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    drain = int(environment["FORGE_RUNNER_DRAIN_SECONDS"]["value"])
    assert pool["terminationGracePeriodSeconds"] > drain
    assert pool["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_pool_of_the_cpu_asks_for_no_card_and_one_of_dra_for_a_claim() -> None:
    of = pods(rendered("ci/full.yaml"))
    assert "nvidia.com/gpu" not in json.dumps(of["forge-cpu"])
    assert of["forge-dra"]["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert of["forge-dra"]["resourceClaims"][0]["resourceClaimTemplateName"] == "forge-dra"


def test_a_pool_scales_by_seconds_of_work_that_wait_and_no_replicas_are_set_beside_it() -> None:
    documents = rendered("ci/full.yaml")
    scaled = named(documents, "ScaledObject", "forge-burst")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 3)
    query = scaled["triggers"][0]["metadata"]["query"]
    assert query == 'sum(max by (model) (forge_scheduler_waiting_seconds{model=~"sdxl|flux"})) or vector(0)'
    assert "replicas" not in named(documents, "StatefulSet", "forge-burst")["spec"]


def test_services_reach_what_they_use_and_nothing_else() -> None:
    documents = rendered("ci/full.yaml")
    ports = {
        each["metadata"]["name"]: {port["port"] for rule in each["spec"]["egress"] for port in rule["ports"]}
        for each in documents
        if each["kind"] == "NetworkPolicy"
    }
    collector = 4318
    assert ports["forge-scheduler"] == {53, 4222, 8222, collector}
    assert ports["forge-runner-a100"] == {53, 4222, 8222, 9000, collector}
    assert ports["forge-projector"] == {53, 4222, 8222, 5432, 9000, collector}
    assert ports["forge-prepare"] == {53, 4222, 8222, 5432}
    assert ports["forge-gateway"] == ports["forge-projector"] | {443}
    component = "app.kubernetes.io/component"
    policies = [each["spec"]["podSelector"] for each in documents if each["kind"] == "NetworkPolicy"]
    workloads = [each["spec"]["template"] for each in documents if each["kind"] in ("Deployment", "StatefulSet", "Job")]
    assert {each["matchLabels"][component] for each in policies} == {
        each["metadata"]["labels"][component] for each in workloads
    }


def test_services_are_told_where_spans_go_where_requests_are_traced_and_nowhere_else() -> None:
    told = {"FORGE_TRACES_SAMPLED": "0.01", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector.monitoring:4318"}
    for name, spec in pods(rendered("ci/full.yaml")).items():
        environment = {each["name"]: each.get("value") for each in spec["containers"][0].get("env", ())}
        is_service = "FORGE_NATS_SEED_FILE" in environment
        assert (environment.items() >= told.items()) is is_service, name
    assert "OTEL" not in json.dumps(rendered())


def test_alerts_and_dashboard_come_with_the_chart() -> None:
    documents = rendered("ci/full.yaml")
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert named(documents, "PrometheusRule", "forge")["spec"] == alerts
    dashboard = named(documents, "ConfigMap", "forge-dashboard")["data"]["dreamforge.json"]
    assert dashboard == (CHART / "files" / "dashboard.json").read_text()


def test_the_address_of_the_database_comes_from_the_secret_of_its_operator() -> None:
    for values, name, key in ((), "dreamforge", "database_url"), (("ci/full.yaml",), "forge-app", "uri"):
        found = {
            pod: [
                (secret["name"], item["key"])
                for secret in secrets(spec)
                for item in secret["items"]
                if item["path"] == "database_url"
            ]
            for pod, spec in pods(rendered(*values)).items()
        }
        using = {pod for pod in found if found[pod]}
        assert using == {"forge-gateway", "forge-projector", "forge-prepare-1"}
        assert {where for pod in using for where in found[pod]} == {(name, key)}


def test_an_image_is_named_by_its_digest_where_there_is_one() -> None:
    images = {name: spec["containers"][0]["image"] for name, spec in pods(rendered("ci/full.yaml")).items()}
    assert all("@sha256:" in image for image in images.values())
    assert images["forge-a100"].startswith("dreamforge-runner:")
    assert images["forge-gateway"].startswith("dreamforge-service:")
    refused = helm("template", "forge", ".", "--set", "image.digests.service=sha256:12")
    assert "image.digests.service: Does not match pattern" in refused.stderr


def test_the_test_of_a_release_may_ask_the_gateway() -> None:
    documents = rendered("ci/full.yaml")
    job = named(documents, "Job", "forge-test")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (address,) = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert address == "http://forge-gateway:80/readyz"
    (rule,) = named(documents, "NetworkPolicy", "forge-gateway")["spec"]["ingress"]
    allowed = [each["podSelector"]["matchLabels"] for each in rule["from"] if "podSelector" in each]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert [wanted for wanted in allowed if wanted.items() <= labels.items()]


def test_streams_and_tables_are_made_before_services_start() -> None:
    job = named(rendered(), "Job", "forge-prepare-1")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    assert command == "dreamforge streams create && dreamforge projection migrate"


def test_the_values_for_the_chart_of_nats_fit_ours() -> None:
    theirs = yaml.safe_load((CHART.parent / "nats.yaml").read_text())
    ours = yaml.safe_load((CHART / "values.yaml").read_text())
    assert theirs["config"]["jetstream"]["merge"]["sync_interval"] == "always"
    assert theirs["config"]["cluster"]["replicas"] >= ours["nats"]["streamReplicas"]
    assert ours["nats"]["monitorUrl"] == f"http://nats-headless:{theirs['config']['monitor']['port']}"
    users = theirs["podTemplate"]["patch"][0]["value"]["secret"]
    assert users["secretName"] == ours["secret"]
    assert {item["key"] for item in users["items"]} <= set(contents(["a-0"], nats="nats:4222", postgres="db:5432"))
    included = Path(theirs["config"]["merge"]["authorization"]["$include"])
    assert Path("/etc", included.parts[1]) == Path(theirs["container"]["patch"][0]["value"]["mountPath"])
