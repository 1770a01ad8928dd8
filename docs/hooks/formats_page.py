"""The reference of file formats, from the classes that write them."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import tempfile
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from docstrings import meanings, summary, table

import retro_lab
from retro_lab.evaluation.measure.gain import Gain
from retro_lab.evaluation.measure.metrics import MemoryShares, Score
from retro_lab.evaluation.measure.ngram_overlap import Similarity
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap, Reading
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.run import directory
from retro_lab.store import checksums
from retro_lab.store.stage import Stage
from retro_lab.training import loggers

INTRODUCTION = """\
# File formats

Made from the classes that write these files. Fields are added between versions, never renamed, so a
reader should ignore fields that it does not know.

## A run's directory

```text
{listing}
```
"""
CHUNK_COLUMNS = {
    "document_id": "Id of the document.",
    "nats_on": "One column a condition: nats of the chunk's tokens.",
    "overlap": "r(C): longest run over the chunk's tokens.",
    "exact_run": "Longest token run shared with any text of database or training split.",
    "neighbour_scores": meanings(Reading)["scores"],
    "neighbour_runs": meanings(Reading)["runs"],
    "unigram_overlap": meanings(Similarity)["unigram"],
    "ngram_jaccard": meanings(Similarity)["jaccard"],
    **meanings(Overlap),
}
TOKEN_COLUMNS = {
    "document_id": "Id of the document.",
    "chunk_index": "Number of the chunk within the document, from 0.",
    "token_id": "Id of the token.",
    "nats_on": "One column a condition: nats of the token.",
    "memory_share": "Part of the token's probability that the memory's experts gave.",
    "memory_expert": "The expert that gave most; empty where the model gave more than all experts.",
}


ARRAY = r"^(u?int|float|bool)\d* \[[\w, ]+\] *"  # of a docstring; a column has its own type


def page() -> str:
    """The page as Markdown."""
    listing = (directory.__doc__ or "").partition("\n\n")[2].strip()
    chunks, tokens = _schemas()
    parts = [
        INTRODUCTION.format(listing=listing),
        "## results.json",
        summary(Results),
        *_record(Results),
        "## chunks.parquet",
        "A row for each scored chunk. Columns of parts that were not measured are missing.",
        _columns(chunks, meanings(ChunkTable) | CHUNK_COLUMNS),
        "## tokens.parquet",
        "A row for each scored token, written with `eval.tokens=true`.",
        _columns(tokens, meanings(TokenTable) | TOKEN_COLUMNS),
        "## gain.json",
        summary(Gain),
        *_record(Gain),
        "## metrics.jsonl",
        f"{summary(loggers)} One JSON object a line: `step`, the optimiser step, and the figures "
        "logged at this step. Names begin with `train/`, `val/` or the evaluated split.",
        "## checksums.json",
        (checksums.__doc__ or "").partition("\n\n")[2],
        "## Stages of the store",
        "Prepared data lies in `<store>/<stage>/<key>/`. The key is a digest of everything that "
        "decides the content. `manifest.json` holds `spec` (what the key was made from), `files` "
        "(size and SHA-256 of each) and `stats` (the builder's counts).",
        table(["stage", "version", "what it holds", "written by"], _stages()),
    ]
    return "\n\n".join(parts) + "\n"


def _record(cls: type, level: int = 2, known: set[type] | None = None) -> Iterator[str]:
    """A table of a record's fields, and one below it for each class of object that is in it."""
    known = set() if known is None else known
    hints, rows, inside = typing.get_type_hints(cls), [], []
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        inside += [part for part in _parts(kind) if dataclasses.is_dataclass(part)]
        about = meanings(cls).get(field.name, "").replace("None", "null")
        if not about:
            raise ValueError(f"{cls.__name__}.{field.name} has no meaning in its docstring")
        rows.append([f"`{field.name}`", _type(kind), about])
    if cls is Score:
        rows += [[f"`{n}`", "float or null", _derived(n)] for n in list(Score().as_dict())[3:]]
    yield table(["key", "type", "meaning"], rows)
    for part in dict.fromkeys(inside):
        if part not in known:
            known.add(part)
            yield f"{'#' * (level + 1)} {part.__name__}"
            yield summary(part)
            yield from _record(part, level, known)


def _parts(kind: Any) -> list[Any]:
    """The type itself, or the types that it is made of."""
    inner = typing.get_args(kind)
    return [part for item in inner for part in _parts(item)] if inner else [kind]


def _type(kind: Any) -> str:
    inner = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return f"{_type(inner[0])} or null"
    if typing.get_origin(kind) is list:
        return f"list of {_type(inner[0])}"
    if typing.get_origin(kind) is dict:
        return f"{_type(inner[1])} by name"
    if dataclasses.is_dataclass(kind):
        name = typing.cast(type, kind).__name__
        return f"[{name}](#{name.lower()})"
    return getattr(kind, "__name__", "any").replace("Any", "any")


def _derived(name: str) -> str:
    """Meaning of a figure that a score derives from its sums."""
    return summary(getattr(Score, name))


def _schemas() -> tuple[pa.Schema, pa.Schema]:
    """Schemas of chunks.parquet and tokens.parquet with every part, as written to a file."""
    one: dict[str, Any] = {"longest_run": np.zeros(1, np.int32), "partial": np.zeros(1, bool)}
    chunks = ChunkTable(
        np.asarray(["a"], object),
        *(np.zeros(1, np.int64) for _ in range(4)),
        {"on": np.zeros(1)},
        np.zeros((1, 1), np.int64),
        Overlap(**one),
        Similarity(np.zeros(1), np.zeros(1)),
        Reading(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32)),
        Overlap(**one),
    )
    tokens = TokenTable(
        *(np.zeros(1, np.int64) for _ in range(4)),
        np.zeros(1, bool),
        {"on": np.zeros(1)},
        np.zeros(1, np.int32),
        MemoryShares(np.zeros(1, np.float32), np.zeros(1, np.int16), ("suffix",)),
    )
    with tempfile.TemporaryDirectory() as folder:
        of_chunks, of_tokens = Path(folder, "chunks.parquet"), Path(folder, "tokens.parquet")
        chunks.save(of_chunks)
        tokens.save(of_tokens, chunks)
        return pq.read_schema(of_chunks), pq.read_schema(of_tokens)


def _columns(schema: pa.Schema, about: dict[str, str]) -> str:
    names = [name.replace("nats_on", "nats_<condition>") for name in schema.names]
    inner = [str(getattr(kind, "value_type", kind)) for kind in schema.types]
    lists = ["list of " if pa.types.is_list(kind) else "" for kind in schema.types]
    kinds = [f"{many}{kind}" for many, kind in zip(lists, inner, strict=True)]
    texts = [re.sub(ARRAY, "", about[name]) for name in schema.names]
    rows = [[f"`{n}`", f"`{k}`", t] for n, k, t in zip(names, kinds, texts, strict=True)]
    return table(["column", "type", "meaning"], rows)


def _stages() -> list[list[str]]:
    """Every stage that the package names in a call of `Stage`."""
    root, found = Path(retro_lab.__file__).parent, {}
    for path in sorted(root.rglob("*.py")):
        dotted = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Stage"):
                continue
            module = importlib.import_module(dotted)
            given = dict(zip(inspect.signature(Stage).parameters, node.args, strict=False))
            given |= {word.arg: word.value for word in node.keywords if word.arg}
            name, version = (_value(given[key], module) for key in ("name", "version"))
            about = re.sub(r"^The stages? .*?: ", "", summary(module))
            found[name] = [f"`{name}`", str(version), about, f"`{dotted}`"]
    return list(found.values())


def _value(node: ast.expr, module: types.ModuleType) -> Any:
    """Value of a literal, or of a module's constant."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id)
    return ast.literal_eval(node)
