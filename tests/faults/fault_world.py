"""A small corpus, commands on it, and what each leaves behind when nothing goes wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import torch
from devices import in_memory, other_device
from fault_children import Child, Ended, command, counting
from small_corpus import CorpusSize, corpus_overrides, write_corpus

from retro_lab.run.compared import compared_configs
from retro_lab.run.directory import RunDirectory

CORPUS = CorpusSize(words=120, documents=(18, 3, 6), lengths=(90, 60, 90), copies={"planted": 3})
_OF_TIME = {"training_seconds"}
"""Columns of report.csv that no two runs have in common."""


@dataclass(frozen=True)
class Phase:
    """A command, where it starts from, and what it leaves when nothing goes wrong.

    Attributes:
        name: of the phase.
        argv: the command line, as typed in a folder of its own.
        start: a folder with the content before.
        end: the folder in which it ran.
        events: number of changes of files that it makes, undisturbed.
        labels: kind of file of each change.
        expected: content of the folder after it, as `fingerprint` gives it.
    """

    name: str
    argv: list[str]
    start: Path
    end: Path
    labels: list[str]
    expected: dict[str, str]

    @property
    def events(self) -> int:
        return len(self.labels)


class World:
    """The folder of everything: a corpus, and the phases' folders of reference.

    Args:
        folder: a new one.
        small: only the phases that the slice strikes.
    """

    def __init__(self, folder: Path, *, small: bool = False) -> None:
        self.folder = folder
        corpus = folder / "corpus"
        corpus.mkdir(parents=True)
        write_corpus(corpus, CORPUS)
        self.settings = [
            *corpus_overrides(corpus), "debug=fast",
            "corpus.max_bytes=null", "tokenizer.vocab_size=300", "model.d_model=16",
            "model.num_heads=1", "model.head_dim=16", "model.d_ff=32", "model.encoder.d_model=16",
            "chunking.sequence_length=64", "logger=none", "trainer.threads=1",
            "trainer.checkpoint_every=1", "eval.bootstrap_samples=20", "runs_dir=runs",
            "store.dir=runs/.store",
        ]  # fmt: skip
        self.phases: dict[str, Phase] = {}
        (folder / "empty").mkdir()
        self._add("prepare", ["prepare", *self.settings], "empty")
        self._add("train", ["train", *self.settings], "after-prepare")
        self.run, self.compared = self._runs(folder / "after-train")
        of_run = f"run=runs/{self.run}"
        self._add("export", ["export", of_run, "out=exported"], "after-train")
        if small:
            return
        evaluation = ["eval.tokens=true", "eval.bootstrap_samples=30"]
        self._add("evaluate", ["evaluate", of_run, *evaluation], "after-train")
        look = ["eval=inspect", "eval.pages=1", "eval.bootstrap_samples=30"]
        self._add("look", ["evaluate", of_run, *look], "after-evaluate")
        self._add("sweep", ["train", "-m", "neighbours=k1,k2", *self.settings], "after-train")
        self._add("report", ["report", "runs"], "after-sweep")

    def _add(self, name: str, argv: list[str], start: str) -> None:
        """Runs a phase undisturbed and remembers what it did."""
        end = self.folder / f"after-{name}"
        shutil.copytree(self.folder / start, end)
        record = self.folder / f"{name}.events"

        def write(number: int, path: str) -> None:
            descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{label(path, end)}\n".encode())
            os.close(descriptor)

        # The record itself is not below the folder that is listened to.
        ended = self.child(argv, end, before=counting([end], write)).wait()
        if ended.code != 0:
            raise RuntimeError(f"{name} failed undisturbed:\n{ended.said}")
        labels = record.read_text().splitlines()
        self.phases[name] = Phase(name, argv, self.folder / start, end, labels, fingerprint(end))

    def child(self, argv: list[str], folder: Path, **options) -> Child:
        """A command in a folder, as a child that has begun."""
        scratch = self.folder / "scratch"
        return Child(command(argv, folder, scratch=scratch, **options))

    def do(self, argv: list[str], folder: Path, **options) -> Ended:
        """A command in a folder, to its end."""
        return self.child(argv, folder, **options).wait()

    def _runs(self, folder: Path) -> tuple[str, dict[str, str]]:
        """Folder name of the run, and of each run that it is compared with, by condition."""
        (run,) = folder.glob("runs/*-bm25-*")
        compared = compared_configs(RunDirectory(run).config())
        return run.name, {name: RunDirectory.of(one).path.name for name, one in compared.items()}


def label(path: str, folder: Path) -> str:
    """Kind of a file: the stage it belongs to, or its name in the run."""
    parts = Path(path).relative_to(folder).parts
    if parts[:2] == ("runs", ".store"):
        return f"store/{parts[2]}" if len(parts) > 2 else "store"
    if parts[0] == "runs" and len(parts) > 2:
        named = [parts[2], *parts[4:5]] if parts[2] == "evaluations" else [parts[2]]
        return "/".join(["run", *(name.lstrip(".").removesuffix(".tmp") for name in named)])
    if parts[0] == "runs" and len(parts) == 2:
        return parts[1] if "report" in parts[1] else "run"
    return parts[0].lstrip(".").removesuffix(".partial")


def fingerprint(folder: Path) -> dict[str, str]:
    """Digest of everything below a folder of commands that a user would miss or quote.

    Figures, weights, tables, exported weights, the report and the store's manifests; not times.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        digest = file_digest(path) if path.is_file() else None
        if digest is not None:
            found[path.relative_to(folder).as_posix()] = digest
    return found


def file_digest(path: Path) -> str | None:
    """Digest of what a user would miss or quote of one file; None if that is nothing."""
    content = _content(path)
    return None if content is None else hashlib.sha256(content).hexdigest()[:16]


def _content(path: Path) -> bytes | None:
    """What must be the same; None of a file that need not be."""
    if ".partial" in str(path) or ".discarded" in str(path):
        return None
    if path.name == "manifest.json":
        return orjson.dumps(orjson.loads(path.read_bytes())["files"], option=orjson.OPT_SORT_KEYS)
    if path.name == "results.json":
        results = orjson.loads(path.read_bytes())
        kept = {name: results[name] for name in ("metrics", "leakage", "data", "lineage")}
        return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)
    if path.name == "last.ckpt":
        return weights_digest(path)
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pydict()).encode()
    if path.suffix == ".safetensors" or path.name == "tokenizer.json":
        return path.read_bytes()
    if path.name == "report.csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return repr([{k: v for k, v in row.items() if k not in _OF_TIME} for row in rows]).encode()
    return None


def weights_digest(path: Path) -> bytes:
    """Of a checkpoint's weights and step."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    digest = hashlib.sha256(str(checkpoint["global_step"]).encode())
    for name, value in sorted(checkpoint["state_dict"].items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.digest()


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names of files that are missing or not as expected."""
    return [name for name, digest in expected.items() if found.get(name) != digest]


@contextmanager
def quick_place(folder: Path) -> Iterator[Path]:
    """A new folder in memory where there is one, for trials that are not about devices."""
    with tempfile.TemporaryDirectory(prefix="retro-faults-", dir=in_memory(folder)) as place:
        yield Path(place)


def places(folder: Path) -> Iterator[tuple[str, Path | None, str]]:
    """Where runs can lie: (name, folder or None, why not)."""
    yield "same device", folder, ""
    other = other_device(folder)
    yield "other device", other, "" if other else f"all others are the device of {folder}"
