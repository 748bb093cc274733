"""The OpenAPI document as a page for people: no script, nothing loaded from anywhere. Pure."""

import json
import re
from html import escape
from typing import Any

from dreamforge.gateway.http.problems import STATUS_OF

Json = dict[str, Any]  # Any: parts of a JSON document

STYLE = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px/1.4 ui-monospace,monospace}pre{overflow:auto;padding:.75rem;border:1px solid #8885;border-radius:6px}
h2{margin-top:2.5rem;border-top:1px solid #8885;padding-top:1rem;font-size:1.1rem}table{border-collapse:collapse}
a{color:inherit}
td,th{text-align:left;overflow-wrap:anywhere;vertical-align:top;padding:.2rem .8rem .2rem 0}
.m{font-weight:700}summary{cursor:pointer}
"""


def render(document: Json) -> str:
    """One page: the description, every route, every problem, every schema."""
    info = document["info"]
    routes = "".join(
        _route(path, method, operation)
        for path, methods in sorted(document["paths"].items(), key=_ours_first)
        for method, operation in methods.items()
    )
    schemas = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])} API</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style><h1>{escape(info['title'])} API {escape(info['version'])}</h1>"
        '<p><a href="./">Studio</a> · <a href="openapi.json">openapi.json</a> · <a href="asyncapi">events</a></p>'
        + "".join(f"<p>{_prose(part)}</p>" for part in info["description"].strip().split("\n\n"))
        + routes
        + f"<h2>Problems</h2><table><tr><th>code<th>status<th>means</tr>{_problems()}</table>"
        + f"<h2>Schemas</h2>{schemas}</html>"
    )


def _ours_first(item: tuple[str, Json]) -> tuple[bool, str]:
    """Routes for people before those for machines: health and metrics."""
    return not item[0].startswith("/v1/"), item[0]


def _prose(text: str) -> str:
    """Escaped text whose `marked` words are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _route(path: str, method: str, operation: Json) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}{', required' if p.get('required') else ''}"
        f"<td>{escape(p.get('description') or p.get('schema', {}).get('description', ''))}</tr>"
        for p in operation.get("parameters", ())
    )
    responses = "".join(
        f"<tr><td><code>{status}</code><td>{escape(answer['description'])}<td>{_reference(answer)}</tr>"
        for status, answer in operation["responses"].items()
    )
    body = f"<p>Body: {_reference(operation['requestBody'])}</p>" if "requestBody" in operation else ""
    return (
        f"<h2><span class=m>{method.upper()}</span> <code>{escape(path)}</code></h2>"
        f"<p>{_prose(operation.get('description', ''))}</p>"
        + (f"<table>{parameters}</table>" if parameters else "")
        + f"{body}<table>{responses}</table>"
    )


def _reference(part: Json) -> str:
    for content in part.get("content", {}).values():
        if name := content.get("schema", {}).get("$ref", "").rpartition("/")[2]:
            return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    return ""


def _problems() -> str:
    rows = [(kind.code, status, title) for kind, status, title in STATUS_OF]
    rows += [("no_such_route", 404, "There is nothing at this path"), ("method_not_allowed", 405, "Not that method")]
    return "".join(
        f'<tr id="problem-{code}"><td><code>{code}</code><td>{status}<td>{escape(title)}</tr>'
        for code, status, title in sorted(set(rows), key=lambda row: (row[1], row[0]))
    )


def _schema(name: str, schema: Json) -> str:
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return (
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>'
    )
