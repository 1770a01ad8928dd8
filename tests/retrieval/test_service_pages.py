"""Contract: `/` and `/docs` describe every endpoint and field, load nothing from elsewhere, run
their own script alone, and show no text of the run.
"""

from __future__ import annotations

import base64
import hashlib
import re

import httpx
import pytest
from in_process_service import index_of, world
from starlette.testclient import TestClient

from retro_lab.retrieval.service.pages import endpoints, type_in_words
from retro_lab.retrieval.service.server import create_app


def page(path: str, api_key: str | None = None) -> httpx.Response:
    return TestClient(create_app(index_of(0), api_key=api_key)).get(path)  # type: ignore[return-value]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_and_runs_its_own_script_alone(path: str) -> None:
    answer = page(path, api_key="secret")
    assert answer.status_code == 200
    assert re.findall(r'(?:src|href)="(?:\w+:)?//', answer.text) == []
    policy = dict(p.split(" ", 1) for p in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for tag in ("style", "script"):
        for source in re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
            assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r" (?:style|on\w+)=", answer.text)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_shows_no_text_of_the_run(path: str) -> None:
    text = page(path).text
    ids = world().searched[:50]
    assert not any(found in text for found in world().texts(ids, world().corpus))
    assert "doc-" not in text


@pytest.mark.parametrize(("api_key", "has_field"), [(None, False), ("secret", True)])
def test_the_key_is_asked_for_where_it_is_needed(api_key: str | None, has_field: bool) -> None:
    text = page("/", api_key).text
    assert ('type="password"' in text) == has_field
    assert ("Authorization: Bearer $RETRO_LAB_API_KEY" in text) == has_field
    assert "secret" not in text


def test_the_documentation_names_every_field_and_says_what_it_means() -> None:
    app = create_app(index_of(0))
    schema, text = app.openapi(), page("/docs").text
    for one in endpoints(schema):
        assert one.summary
        assert all(one.about)
        assert f'id="{one.anchor}"' in text
    for name, part in schema["components"]["schemas"].items():
        if "Validation" not in name:
            for field in part["properties"]:
                assert re.search(rf"<code>{field}</code></th>.*<td>[^<]+</td></tr>", text), field


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1}, "integer, at least 1"),
        (
            {"type": "array", "items": {"$ref": "#/a/Hit"}, "minItems": 1},
            "list of Hit, items from 1",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"const": "list"}, '"list"'),
    ],
)
def test_types_are_told_in_words(schema: dict, words: str) -> None:
    assert type_in_words(schema) == words
