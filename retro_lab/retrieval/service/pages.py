"""The pages of the search service: `/` searches from a browser, `/docs` describes every endpoint.

Each page is one file without anything from elsewhere, and its headers forbid the browser to load
more. Both are made from /openapi.json's content and show no text of the run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .served_index import ServedIndex

_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "minLength": "length from",
    "maxLength": "length to",
    "minItems": "items from",
    "maxItems": "items to",
}


class Row(NamedTuple):
    """A field of a request or an answer, in words."""

    name: str
    type: str
    default: str
    about: str


class Message(NamedTuple):
    """A body: its name, description, fields and a JSON example, which may be empty."""

    name: str
    about: str
    rows: list[Row]
    example: str


class Endpoint(NamedTuple):
    """A method and path, what they do, and the bodies."""

    method: str
    path: str
    summary: str
    about: list[str]
    guarded: bool
    request: Message | None
    answer: Message

    @property
    def anchor(self) -> str:
        return f"{self.method}{self.path.replace('/', '-')}".lower()

    def curl(self, base: str, needs_key: bool) -> str:
        """A command line that asks the example."""
        key = ' -H "Authorization: Bearer $RETRO_LAB_API_KEY"'
        line = f"curl -s {base}{self.path}{key if needs_key and self.guarded else ''}"
        return f"{line} --json '{self.request.example}'" if self.request else line


def add_pages(app: FastAPI, served: ServedIndex, *, needs_key: bool) -> None:
    """Adds `/` and `/docs`, which need no key."""

    @app.get("/", include_in_schema=False)
    async def landing(request: Request) -> HTMLResponse:
        return _page(
            "landing.html.j2",
            retriever=served.config.name,
            size=served.size,
            needs_key=needs_key,
            endpoints=endpoints(app.openapi()),
            base=str(request.base_url).rstrip("/"),
        )

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        schema = app.openapi()
        found = endpoints(schema)
        shown = {part.name for one in found for part in (one.request, one.answer) if part}
        return _page(
            "docs.html.j2",
            needs_key=needs_key,
            endpoints=found,
            parts=[_message(schema, name) for name in _parts(schema) if name not in shown],
            base=str(request.base_url).rstrip("/"),
        )


def endpoints(schema: dict[str, Any]) -> list[Endpoint]:
    """The endpoints of an OpenAPI schema, in its order."""
    return [
        Endpoint(
            method=method.upper(),
            path=path,
            summary=operation["summary"],
            about=operation.get("description", "").split("\n\n"),
            guarded="security" in operation,
            request=_body(schema, operation.get("requestBody")),
            answer=_body(schema, operation["responses"]["200"]) or Message("", "", [], ""),
        )
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]


def _parts(schema: dict[str, Any]) -> Iterator[str]:
    """Names of the messages, without those of FastAPI's own error, which is never sent."""
    return (name for name in schema["components"]["schemas"] if "Validation" not in name)


def _body(schema: dict[str, Any], holder: dict[str, Any] | None) -> Message | None:
    if holder is None:
        return None
    return _message(schema, _name(holder["content"]["application/json"]["schema"]["$ref"]))


def _message(schema: dict[str, Any], name: str) -> Message:
    part = schema["components"]["schemas"][name]
    about, _, attributes = part.get("description", "").partition("\n\nAttributes:\n")
    told = dict(re.findall(r"^ +(\w+): (.+)$", attributes, re.MULTILINE))  # of a dataclass
    needed = part.get("required", [])
    rows = [
        Row(
            field,
            type_in_words(its),
            "required" if field in needed else json.dumps(its.get("default")),
            its.get("description") or told.get(field, ""),
        )
        for field, its in part["properties"].items()
    ]
    example = json.dumps(part["examples"][0]) if "examples" in part else ""
    return Message(name, about, rows, example)


def type_in_words(schema: dict[str, Any]) -> str:
    """A field's type and bounds, such as "integer, at least 1" or "list of Hit"."""
    if "$ref" in schema:
        return _name(schema["$ref"])
    if "anyOf" in schema:
        return " or ".join(map(type_in_words, schema["anyOf"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    kind = schema.get("type", "any value")
    if kind == "array":
        kind = f"list of {type_in_words(schema['items'])}"
    bounds = [f"{word} {schema[name]:,}" for name, word in _BOUNDS.items() if name in schema]
    return ", ".join([kind, *bounds])


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _page(template: str, **values: Any) -> HTMLResponse:
    """A page and the policy that lets the browser use the page's own style and script alone."""
    style, script = _source("page.css"), _source("search.js")
    html = _environment().get_template(template).render(style=style, script=script, **values)
    policy = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "connect-src": "'self'",
        "img-src": "data:",  # the empty icon
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(html, headers=headers)


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _source(name: str) -> Markup:
    """A file of `templates/`, to be put into a page as it is."""
    environment = _environment()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("retro_lab.retrieval.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
