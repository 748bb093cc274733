"""The AsyncAPI document as one self-contained page for people: no script, no font, no external resource."""

import json
from html import escape
from typing import Any

Json = dict[str, Any]  # Any: a JSON document

STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#5b6475;--line:#d9dee8;--page:#fbfcfe;--code:#eef1f7;--mark:#b3471d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#9aa4b8;--line:#333b4d;--page:#12161f;--code:#1b2130;
--mark:#ff9d6b}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0}
main{max-width:62rem;margin:0 auto;padding:2rem 1.2rem 6rem}
h1{margin-bottom:.2rem}h2{margin:2.6rem 0 .2rem;font-size:1.2rem}
code,pre{font:.88em/1.5 ui-monospace,monospace;background:var(--code);border-radius:4px}
code{padding:.1em .35em}pre{padding:.8rem 1rem;overflow:auto}
.address{color:var(--mark)}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;margin:.6rem 0;font-size:.92rem}
td,.address,p{overflow-wrap:anywhere}
th,td{text-align:left;padding:.35rem .6rem;border-top:1px solid var(--line);vertical-align:top}th{color:var(--soft)}
nav a{display:inline-block;margin:.15rem .8rem .15rem 0}a{color:inherit}
section{border-bottom:1px solid var(--line);padding-bottom:1.4rem}
"""


def page(document: Json) -> str:
    """Render the document as HTML. Pure; every text is escaped."""
    info = document["info"]
    channels = document["channels"]
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in channels)
    body = "".join(_channel(document, name, channel) for name, channel in channels.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(info["title"])}</h1><p class="soft">AsyncAPI {document["asyncapi"]}, '
        f"version {escape(info['version'])}</p><p>{escape(info['description'])}</p><nav>{links}</nav>"
        f"{body}{_headers(document)}</main></body></html>\n"
    )


def _channel(document: Json, name: str, channel: Json) -> str:
    message = document["components"]["messages"][next(iter(channel["messages"]))]
    schema = document["components"]["schemas"][message["payload"]["$ref"].rsplit("/", 1)[-1]]
    who = ", ".join(
        f"<b>{escape(operation['tags'][0]['name'])}</b> {operation['action']}s"
        for operation in document["operations"].values()
        if operation["channel"]["$ref"] == f"#/channels/{name}"
    )
    parameters = _rows(
        ("in the subject", "meaning"),
        [(key, escape(value["description"])) for key, value in channel["parameters"].items()],
    )
    fields = _rows(
        ("field", "type"),
        [
            (key + ("" if key in schema.get("required", []) else " (optional)"), _type(part))
            for key, part in schema.get("properties", {}).items()
        ],
    )
    return (
        f'<section id="{escape(name)}"><h2>{escape(name)}</h2>'
        f'<p><code class="address">{escape(channel["address"])}</code></p><p>{escape(channel["description"])}</p>'
        f'<p class="soft">type <code>{escape(message["name"])}</code>; {who}</p>{parameters}{fields}'
        f"<details><summary>JSON schema</summary><pre>{escape(json.dumps(schema, indent=2))}</pre></details></section>"
    )


def _headers(document: Json) -> str:
    headers = document["components"]["messageTraits"]["cloudEvent"]["headers"]["properties"]
    rows = [(key, escape(str(part.get("description") or part.get("const") or ""))) for key, part in headers.items()]
    return f'<section id="headers"><h2>Headers of every event</h2>{_rows(("header", "meaning"), rows)}</section>'


def _rows(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<tr><td><code>{escape(left)}</code></td><td>{right}</td></tr>" for left, right in rows)
    return f"<table><tr><th>{head[0]}</th><th>{head[1]}</th></tr>{cells}</table>"


def _type(part: Json) -> str:
    """A schema in a few words."""
    if "$ref" in part:
        return escape(part["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in part:
        return " or ".join(_type(option) for option in part["anyOf"])
    if part.get("type") == "array":
        return f"list of {_type(part.get('items', {}))}"
    notes = [f"{word} {part[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in part]
    notes += [f"matches {part['pattern']}"] if "pattern" in part else []
    notes += [part["description"]] if "description" in part else []
    kind = escape(part.get("format") or part.get("type") or "anything")
    return kind + (f' <span class="soft">({escape("; ".join(notes))})</span>' if notes else "")
