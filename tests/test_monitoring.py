"""Alerts and the dashboard: they ask for metrics that there are, and each alert has its line of what to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = ROOT / "deploy" / "helm" / "dreamforge" / "files"
RULES = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
DECLARED = re.compile(r'(?:Counter|Gauge|Histogram)\(\s*"(forge_\w+)"')
SUFFIXES = ("_bucket", "_sum", "_count")


WITH_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool (Debian: prometheus)")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def metrics() -> set[str]:
    return {name for path in ROOT.glob("*/src/**/*.py") for name in DECLARED.findall(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_a_query_asks_for_metrics_that_there_are(query: str) -> None:
    asked = set(re.findall(r"forge_\w+", query))
    known = metrics()
    assert asked
    assert {name for name in asked if not known & {name, *(name.removesuffix(each) for each in SUFFIXES)}} == set()


def test_each_alert_says_what_to_do() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "howto" / "alerts.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/howto/alerts.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


@WITH_PROMTOOL
def test_alerts_are_silent_when_all_is_well_and_tell_when_it_is_not() -> None:
    promtool("test", "rules", str(FILES / "alerts_test.yaml"))


@WITH_PROMTOOL
def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.yaml"))
