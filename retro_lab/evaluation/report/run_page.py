"""index.html: a run's figures, words, plots and files on one page that opens offline.

Plots are in the page itself; the files beside it are linked. No script, no font, no date: the same
results give the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import orjson

from retro_lab.config.files import replacing

from ..measure.conditions import compared_with, in_order, label
from ..records.results import Results, plain_in_words, warnings
from .reference_words import in_words
from .tables import difference_text, probe_differences
from .verdict import verdict

PAGE_FILE = "index.html"
PLOTS = {
    "leakage.png": "Bits per byte on chunks that share at most alpha with the reference text",
    "injection.png": "What a planted leak changes, by its share of one half of the documents",
    "gain.png": "Where the gain is: by overlap, neighbour, place and document",
}
FILES = {
    "inspect.html": "the text itself, coloured by what retrieval gained on each token",
    "results.json": "every figure, with configuration, versions and lineage",
    "chunks.parquet": "a row a scored chunk; every figure here follows from it",
    "tokens.parquet": "a row a scored token",
    "gain.json": "where the gain is: every bin and correlation of the plot above",
    "injection.json": "the leak experiment: every dose on every set of chunks",
    "injection.svg": "its figure, to be scaled",
    "rivals.json": "rivals on the same tokens: figures, tuning and cost",
    "rivals.parquet": "their scores, a row a scored chunk",
    "harness.json": "lm-eval's tasks: its figures, by condition",
    "qa.json": "questions: every answer and the rank of its passage, with the figures",
    "config.yaml": "the configuration",
    "metrics.jsonl": "curves of the training",
    "run.log": "what the commands said",
}
RECORDS = {
    "injection.json": ("injection.json", "injection.svg", "injection.png"),
    "rivals.json": ("rivals.json", "rivals.parquet"),
}
"""Records of single evaluations, which outlive the next one, and the files that belong to each."""
DECISIVE = ("split", "stride", "k", "reference")
OUTDATED = "of an evaluation with another split, stride, k or reference"
_STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; }
body { margin: 0 auto; padding: 1.5rem; max-width: 64rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.soft { color: var(--soft); font-size: .85rem; }
.warning { border-left: 4px solid #b3261e; padding-left: .75rem; }
a { color: #0550ae; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
td, th { padding: .2rem 1.1rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
"""


def write_run_page(results: Results, folder: Path) -> Path:
    """Writes index.html atomically into a run's directory and returns its path.

    Args:
        folder: the run's directory; of its plots and files those are shown that are there.
    """
    path = folder / PAGE_FILE
    with replacing(path) as temporary:
        temporary.write_text(render(results, folder), encoding="utf-8", newline="\n")
    return path


def outdated(results: Results, folder: Path) -> set[str]:
    """Files in a run's directory that are `OUTDATED` beside these results.

    A record that is damaged is not judged; whoever reads it refuses it.
    """
    asked = results.config.get("eval", {})
    found: set[str] = set()
    for record, files in RECORDS.items():
        try:
            recorded = orjson.loads((folder / record).read_bytes())["evaluation"]
            same = all(recorded.get(name) == asked.get(name) for name in DECISIVE)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if not same:
            found.update(files)
    return found


def render(results: Results, folder: Path) -> str:
    """The page as HTML."""
    name, leakage = escape(folder.name), results.leakage
    settings = results.evaluation
    described = (
        f"{settings.split} split, windows of {settings.window} tokens every {settings.stride}; "
        f"{100 * leakage.bootstrap.confidence:g} % paired bootstrap intervals over documents"
    )
    body = [f"<h1>{name}</h1>", f'<p class="soft">{escape(described)}</p>']
    body += [f'<p class="warning">{escape(sentence)}</p>' for sentence in warnings(results)]
    scores = results.metrics[settings.split]
    if "on" in scores:
        found = verdict(leakage, settings.max_run, results.compressors)
        body += [f"<p>{escape(sentence)}</p>" for sentence in found.sentences]
    body += ["<h2>Scores, all chunks</h2>", _conditions(results), *_plain_model(results)]
    if leakage.reference is not None:
        reference = escape(in_words(leakage.reference))
        body.append(f"<h2>Bits per byte on chunks that share at most r(C) with {reference}</h2>")
        body.append(_leakage(results))
    if "on" in scores and len(scores) > 2:
        body += ["<h2>Other neighbours: bits per byte minus RETRO[ON]</h2>", _probes(results)]
    old = outdated(results, folder)
    body += list(_plots(folder, old))
    body += ["<h2>Files</h2>", _files(folder, old)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _conditions(results: Results) -> str:
    scores, words = results.metrics[results.evaluation.split], results.evaluation.words
    per_word = [] if words is None else ["perplexity a word"]
    rows = [
        [
            label(name),
            _number(scores[name].loss, ".4f"),
            _number(scores[name].ppl, ".2f"),
            *([] if words is None else [_number(scores[name].per_word(words), ".6g")]),
            _number(scores[name].bpb, ".4f"),
            f"{scores[name].tokens:,}",
            f"{scores[name].bytes:,}",
        ]
        for name in in_order(scores)
    ]
    heads = ["condition", "nats/token", "perplexity", *per_word, "bits/byte", "tokens", "bytes"]
    return _table(heads, rows)


def _plain_model(results: Results) -> Iterable[str]:
    """What the plain model is, so that nobody has to ask what a gain was measured against."""
    plain = results.plain
    if plain is not None:
        yield f'<p class="soft">{escape(plain_in_words(plain))}</p>'


def _leakage(results: Results) -> str:
    leakage = results.leakage
    names = in_order(leakage.curves)
    other = compared_with(names) or "baseline"
    figures = [*map(label, names), f"on minus {label(other)}"]
    head = ["r(C) ≤", "chunks", "bytes", "documents", *figures]
    rows = []
    for place, alpha in enumerate(leakage.alphas):
        point = leakage.curves[names[0]][place]
        figures = [_number(leakage.curves[name][place].bpb, ".4f") for name in names]
        counts = [f"{point.chunks:,}", f"{point.bytes:,}", f"{point.documents:,}"]
        paired = difference_text(leakage.difference("on", other, alpha))
        rows.append([f"{alpha:g}", *counts, *figures, paired])
    return _table(head, rows)


def _probes(results: Results) -> str:
    heads, rows = probe_differences(results.leakage)
    return _table(["read instead", *heads], rows)


def _plots(folder: Path, old: set[str]) -> Iterable[str]:
    for name, words in PLOTS.items():
        path = folder / name
        if path.is_file() and name not in old:
            data = base64.b64encode(path.read_bytes()).decode()
            yield f'<h2>{escape(words)}</h2>\n<p><a href="{name}">{name}</a></p>'
            yield f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'


def _files(folder: Path, old: set[str]) -> str:
    rows = [
        f'<tr><td><a href="{name}">{name}</a></td><td style="text-align:left">{words}'
        f"{f' ({OUTDATED})' if name in old else ''}</td></tr>"
        for name, words in FILES.items()
        if (folder / name).is_file()
    ]
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ["<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows]
    table = f"<table><tr>{cells}</tr>{''.join(lines)}</table>"
    return f'<div class="wide">{table}</div>'


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else format(value, form)
