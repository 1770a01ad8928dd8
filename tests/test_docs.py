"""Contract: the site builds without a warning, so every link resolves. Its reference has every key,
command and column. Run names in the pages are those that the commands beside them give. A sentence
has at most 35 words.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from composed import config_of

import retro_lab
from retro_lab.__main__ import COMMANDS
from retro_lab.config.fingerprints import baseline_of, plain_of, run_name, steps_of
from retro_lab.config.schema import SCHEMAS, Config, EvaluateConfig

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ = [*PAGES, REPO / "README.md", REPO / "CONTRIBUTING.md"]
MOST_WORDS = 35

LAUNCHED = (
    "-m hydra/launcher=cores hydra.launcher.n_jobs=2 debug=fast corpus.max_bytes=120_000 "
    "tokenizer=byte logger=none trainer.threads=1 eval=ppl retriever=random neighbours=k1,k2"
)
# Run name: the settings of its command, which of the command's runs it is, and of which point.
RUNS = {
    "tiny-none-s1-ad01ee12": ("", "plain"),
    "tiny-bm25-k2-s1-d64cf24b": ("", "run"),
    "nano-bm25-k2-s1-a3b9a957": ("debug=fast", "run"),
    "nano-none-s1-2a3ae575": ("debug=fast", "plain"),
    "nano-bm25-k4-s1-8291b6fd": (
        "-m debug=fast eval.split=validation neighbours=k1,k2,k4",
        "run",
        "neighbours=k4",
    ),
    "nano-random-k1-s1-fe187f13": (LAUNCHED, "run", "neighbours=k1"),
    "nano-random-k2-s1-7f1cdaf8": (LAUNCHED, "run", "neighbours=k2"),
    "nano-none-s1-ddd9e86e": (LAUNCHED, "baseline", "neighbours=k1"),
    "small-bm25-k2-s1-631a5b5a": ("trainer=gpu model=small", "run"),
    "tiny-bm25-k2-s1-85b516bc": ("debug=limit", "run"),
    "tiny-bm25-k2-s1-cd3705f7": (
        "debug=limit schedule.steps=300 schedule.warmup_steps=30 recipe.steps=100 memory=none "
        "logger=none trainer.threads=1 eval.bootstrap_samples=1000",
        "run",
    ),
    "nano-bm25-k2-s1-ac21734b": (
        "model=nano debug=limit schedule.steps=120 schedule.warmup_steps=12 recipe.steps=40 "
        "memory=none logger=none trainer.threads=1 eval.bootstrap_samples=1000",
        "run",
    ),
    "tiny-none-s1-127e1934": ("debug=limit", "baseline"),
    "nano-bm25-k2-s1-6b620356": ("debug=limit model=nano logger=none", "run"),
    "tiny-bm25-k2-s1-75e27737": (
        "experiment=leak_injection corpus=jsonl corpus.path=docs.jsonl.zst corpus.id_field=null "
        "eval=probes trainer.threads=1",
        "run",
    ),
    "tiny-none-s1-f7eb3c5a": (
        "retriever=none corpus=jsonl corpus.path=docs.jsonl.zst corpus.id_field=null "
        "corpus.max_bytes=12_000_000 optim.lr=6e-3 schedule.steps=2000 trainer.threads=1",
        "run",
    ),
    "tiny-bm25-k2-s1-da242be1": (
        "corpus=jsonl corpus.path=manuals.jsonl.zst corpus.id_field=null "
        "corpus.max_bytes=4_000_000 eval=probes",
        "run",
    ),
}
EXAMPLES = {"tiny-bm25-k2-s1-0123abcd"}  # made up
PACKED = ("logger", "callbacks")  # groups whose options have keys under their own names
NAME = re.compile(r"\b[a-z][a-z0-9_]*-[a-z0-9_]+(?:-k\d+)?-s\d+-[0-9a-f]{8}\b")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder)], cwd=REPO, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    """The text of a built page, tags left out."""
    parser, parts = HTMLParser(), []
    parser.handle_data = parts.append
    parser.feed(page.read_text(encoding="utf-8"))
    return "".join(parts)


def keys_of(schema: type, prefix: str) -> Iterator[str]:
    """Full names of a schema's settings; a group that may be null is known by its own keys."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        key = f"{prefix}.{field.name}".removeprefix(".")
        if dataclasses.is_dataclass(hint):
            yield from keys_of(hint, key)
        elif not any(map(dataclasses.is_dataclass, typing.get_args(hint))):
            yield key


def test_every_key_of_the_schemas_is_in_the_reference(site: Path) -> None:
    shown = set(re.findall(r"[\w.]+", text_of(site / "reference/configuration.html")))
    wanted = set(keys_of(Config, "")) | set(keys_of(EvaluateConfig, ""))
    for name, schema in SCHEMAS.items():
        group, _, option = name.partition("/")
        if option:
            own = group in PACKED and option != "base"
            wanted |= set(keys_of(schema, f"{group}.{option}" if own else group))
    assert wanted - shown == set()


def test_no_heading_of_the_reference_stands_twice(site: Path) -> None:
    page = (site / "reference/configuration.html").read_text(encoding="utf-8")
    headings = re.findall(r'<h[23] id="([^"]+)"', page)
    assert len(headings) > 30
    assert [heading for heading in headings if re.search(r"_\d+$", heading)] == []


def test_every_command_is_in_the_reference(site: Path) -> None:
    shown = text_of(site / "reference/commands.html")
    assert [name for name, (_, purpose) in COMMANDS.items() if purpose[1:] not in shown] == []


def test_every_name_of_the_python_api_is_in_the_reference(site: Path) -> None:
    page = (site / "reference/python.html").read_text(encoding="utf-8")
    assert [name for name in retro_lab.__all__ if f'id="retro_lab.api.{name}"' not in page] == []


def test_every_group_and_option_is_in_the_overview() -> None:
    shown = set(re.findall(r"\w+", (DOCS / "configuration.md").read_text(encoding="utf-8")))
    options = {
        file.stem
        for file in (REPO / "conf").glob("*/*.yaml")
        if file.parent.name not in ("experiment", "sweep", "debug", "hydra", "local")
    }
    assert options - shown == set()


def test_every_room_is_in_the_architecture() -> None:
    shown = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rooms = [file.parent.name for file in (REPO / "retro_lab").glob("*/__init__.py")]
    assert [room for room in rooms if f"retro_lab/{room} " not in shown] == []


def named(settings: str, which: str, point: str = "") -> str:
    """Name of a command's run, of its baseline or of its plain model; of one point of a sweep."""
    words = [word for word in settings.split() if word != "-m" and not word.startswith("hydra")]
    config = config_of(*words, *point.split())
    if which == "baseline":
        return run_name(baseline_of(config))
    return run_name(plain_of(config, steps_of(config)) if which == "plain" else config)


def test_run_names_are_those_that_commands_give() -> None:
    assert {name: named(*command) for name, command in RUNS.items()} == {n: n for n in RUNS}


def test_every_run_name_has_its_command_in_a_page() -> None:
    texts = [page.read_text(encoding="utf-8") for page in READ if page.name != "decisions.md"]
    text = " ".join(" ".join(texts).replace("\\\n", " ").split())
    found = set(NAME.findall(text))
    assert found - RUNS.keys() - EXAMPLES == set()
    settings = {RUNS[name][0] for name in found & RUNS.keys()}
    programs = ("python train.py", "python -m retro_lab validate")
    assert [s for s in settings if not any(f"{p} {s}".strip() in text for p in programs)] == []


def sentences(text: str) -> Iterator[str]:
    """Sentences outside code, tables and headings; inline code counts as a word."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines if line.strip()):
            continue
        parts: list[str] = [""]
        for line in lines:
            if re.match(r"\s*([|#!<]|[-*] |\d+\. )", line):
                parts.append("")
            if not re.match(r"\s*[|#!<]", line):
                parts[-1] += f" {line}"
        for part in parts:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "x", part))
            yield from re.split(r"(?<=[.?!])[\")*]*\s+", words)


@pytest.mark.parametrize("page", READ, ids=lambda page: page.relative_to(REPO).as_posix())
def test_sentences_are_short(page: Path) -> None:
    if page.name == "decisions.md":
        pytest.skip("a log of reasons, not a page to learn from")
    found = sentences(page.read_text(encoding="utf-8"))
    assert [sentence for sentence in found if len(sentence.split()) > MOST_WORDS] == []


def test_a_long_sentence_is_seen() -> None:
    long = " ".join(["word"] * (MOST_WORDS + 1))
    assert max(len(s.split()) for s in sentences(f"Short.\n\n- {long}.\n")) > MOST_WORDS
    assert max(len(s.split()) for s in sentences(f"Short.\n\n    {long}\n\n| {long} |\n")) == 1


def test_the_citation_names_software_and_paper() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "version", "license"} <= citation.keys()
    assert [reference["doi"] for reference in citation["references"]] == [
        "10.48550/arXiv.2112.04426"
    ]
