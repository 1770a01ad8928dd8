"""What a memory saves a pretrained model, on a sample of documents of one or several corpora.

    python benchmarks/memory_backbone.py --work W read manuals recipe.backbone=smollm2 \
        corpus=jsonl corpus.path=manuals.jsonl.zst
    python benchmarks/memory_backbone.py --work W fit manuals proposals
    python benchmarks/memory_backbone.py --work W score manuals manuals manuals+proposals

`read` reads samples of each split and keeps what a gate sees of every token, a file a document; if
it is stopped it goes on with the next document. `fit` fits a gate on each corpus's samples, and one
on all of them together. `score` prints bits per byte on the test sample of its first corpus with
the gates that follow, and writes them to W/score-CORPUS.json. Documents are read from their start,
in one window, by the package's own functions; all of the corpus's training split is the database.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.config.compose import load_config
from retro_lab.config.fingerprints import canonical
from retro_lab.config.rules import check
from retro_lab.config.schema import Config
from retro_lab.data.dataset import Batch, EvaluationData
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.evaluation.measure.memory_scoring import (
    DocumentTexts,
    TokenReadings,
    token_readings,
)
from retro_lab.evaluation.measure.statistics import Bootstrap, chunk_intervals
from retro_lab.memory.fitting import fit
from retro_lab.memory.memory import FittedGate
from retro_lab.memory.readings import Readings
from retro_lab.run.backbone import with_backbone
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.data.memory_nodes import open_memory
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.probes import exact_runs
from retro_lab.run.model import open_model

WINDOW = 1600
"""Tokens read of each document, from its start."""
DOCUMENTS = {"train": 60, "validation": 20, "test": 85}
"""Documents of each sample; the first two are for the gate."""
RUNS = (8, 16, 32, None)
"""Chunks are scored whose longest run shared with the database has at most so many tokens."""
SEED = 0
SETTINGS = (
    *("retriever=none", "memory=suffix_topic", "logger=none"),
    f"chunking.sequence_length={WINDOW}",
)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    begun = time.perf_counter()
    if arguments.command == "read":
        config = with_backbone(canonical(load_config([*SETTINGS, *arguments.overrides])))
        check(config)
        read(config, arguments.work / arguments.corpus, arguments.splits.split(","))
    elif arguments.command == "fit":
        fit_gates(arguments.work, arguments.corpora)
    else:
        found = score(arguments.work, arguments.corpus, arguments.gates)
        text = json.dumps(found, indent=2)
        (arguments.work / f"score-{arguments.corpus}.json").write_text(text + "\n")
        print(text)
    print(f"{arguments.command}: {time.perf_counter() - begun:.0f} s")


def read(config: Config, folder: Path, splits: Sequence[str]) -> None:
    """Writes the readings of each sampled document that has no file yet."""
    graph = DataGraph(config)
    graph.prepare()
    memory = open_memory(graph, config.memory, torch.get_num_threads())
    model = open_model(config, RunDirectory.of(config), graph.chunks)
    names = {"experts": memory.experts, "inputs": memory.inputs}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.json").write_text(json.dumps(names))
    for split in splits:
        (folder / split).mkdir(exist_ok=True)
        texts = _texts(graph, split)
        for document, batch in _samples(config, graph, split):
            path = folder / split / f"{document}.npz"
            if path.exists():
                continue
            begun = time.perf_counter()
            [found] = token_readings(model, [batch], memory, texts, graph.chunks, retrieval=False)
            _save(path, graph, split, found)
            tokens = len(found.tokens.chunk)
            print(f"{split} {document}: {tokens} tokens, {time.perf_counter() - begun:.1f} s")


def _samples(config: Config, graph: DataGraph, split: str) -> Iterator[tuple[int, Batch]]:
    """The sampled documents, and the first window of each, as long as it has tokens to score."""
    chunking, store = config.chunking, graph.chunks
    subset = Subset.whole(store, split, chunking, WINDOW)
    drawn = subset.drawn(SEED, documents=DOCUMENTS[split]).documents
    data = EvaluationData(store, split, chunking, None, 0, WINDOW)
    first = data.order[data.windows.start_chunk]
    begins = np.asarray(store.index)[first] == 0
    for document in drawn.tolist():
        [window] = np.flatnonzero(begins & (np.asarray(store.document)[first] == document))
        batch = data.__getitems__([int(window)])
        length = int((batch["target_chunks"][0] >= 0).nonzero().max()) + 1
        yield document, {name: each[:, :length] for name, each in batch.items()}


def _texts(graph: DataGraph, split: str) -> dict[bool, DocumentTexts]:
    """A split's texts with their own contexts, and with those of other documents as a control."""
    store, database = graph.chunks, graph.searched.chunks
    others = np.unique(np.asarray(store.document)[store.chunks_of(split)])
    return {
        False: DocumentTexts(store, database),
        True: DocumentTexts(store, database, SEED, others),
    }


def _save(path: Path, graph: DataGraph, split: str, found: TokenReadings) -> None:
    """Writes the readings of one document, with chunk and bytes of each token."""
    arrays: dict[str, NDArray] = {"chunk": found.tokens.chunk, "bytes": found.tokens.bytes}
    if split == "test":
        arrays["run"] = exact_runs(graph, split, found.tokens.chunk)
    for random, readings in found.readings.items():
        arrays |= {f"{random}_{name}": value for name, value in readings._asdict().items()}
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.rename(path)


def fit_gates(work: Path, corpora: Sequence[str]) -> None:
    """Fits a gate on each corpus, and on all together, and their controls; into W/gates."""
    names = json.loads((work / corpora[0] / "names.json").read_text())
    experts, inputs = tuple(names["experts"]), tuple(names["inputs"])
    for random in (False, True):
        parts = {
            name: [_readings(work / name / split, random) for split in ("train", "validation")]
            for name in corpora
        }
        if len(parts) > 1:
            both = zip(*parts.values(), strict=True)
            parts["+".join(corpora)] = [Readings.stacked(each) for each in both]
        for name, (training, validation) in parts.items():
            fitted = fit(training, validation, SEED)
            folder = work / "gates" / (f"{name}-random" if random else name)
            folder.mkdir(parents=True, exist_ok=True)
            FittedGate(fitted.gate, experts, inputs).save(folder)
            alone, mixed = validation.nats.mean(), min(fitted.nats)
            tokens = len(training.nats)
            print(f"{folder.name}: {tokens} tokens, validation {alone:.4f} -> {mixed:.4f} nats")


def _readings(folder: Path, random: bool) -> Readings:
    """The readings of a split's sample, documents in order."""
    return Readings.stacked([_readings_of(path, random) for path in _files(folder)])


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("*.npz") if ".partial" not in path.name]
    return sorted(found, key=lambda path: int(path.stem))


def _readings_of(path: Path, random: bool) -> Readings:
    arrays = np.load(path)
    return Readings(*(arrays[f"{random}_{name}"] for name in Readings._fields))


def score(work: Path, corpus: str, gates: Sequence[str]) -> dict[str, Any]:
    """Bits per byte of the test sample by longest run, and paired differences from the model."""
    files = _files(work / corpus / "test")
    of_files = [np.load(path) for path in files]
    column = {
        name: np.concatenate([arrays[name] for arrays in of_files])
        for name in ("chunk", "bytes", "run")
    }
    document = np.repeat(np.arange(len(files)), [len(arrays["chunk"]) for arrays in of_files])
    nats = {"alone": np.concatenate([arrays["False_nats"] for arrays in of_files])}
    for gate in gates:
        for name in (gate, f"{gate}-random"):
            nats[name] = _mixed(files, work / "gates" / name)
    found: dict[str, Any] = {"corpus": corpus, "documents": len(files)}
    for run in RUNS:
        kept = column["run"] <= (math.inf if run is None else run)
        rows = {name: each[kept] for name, each in nats.items()}
        key = "all" if run is None else f"at most {run}"
        found[key] = _figures(rows, column["bytes"][kept], document[kept])
        found[key]["chunks"] = len(np.unique(column["chunk"][kept]))
    return found


def _mixed(files: Sequence[Path], folder: Path) -> NDArray[np.float64]:
    """Nats of every token under a gate; a control's gate reads the control's evidence."""
    gate, random = FittedGate.load(folder).gate, folder.name.endswith("-random")
    return np.concatenate([gate.nats(_readings_of(path, random)) for path in files])


def _figures(nats: dict[str, NDArray], num_bytes: NDArray, document: NDArray) -> dict[str, Any]:
    """Bits per byte by condition, with the saving and its interval over documents."""
    others = [name for name in nats if name != "alone"]
    pairs = [(name, "alone") for name in others]
    pairs += [(name, f"{name}-random") for name in others if f"{name}-random" in nats]
    intervals, documents = chunk_intervals(document, nats, num_bytes, pairs, Bootstrap())
    bits = {name: each.sum() / num_bytes.sum() / math.log(2) for name, each in nats.items()}
    compared = {
        f"{a} - {b}": {
            "difference": round(bits[a] - bits[b], 5),
            "interval": [round(end, 5) for end in intervals[a, b] or ()],
            "percent": round(100 * (bits[a] / bits[b] - 1), 2),
        }
        for a, b in pairs
    }
    return {
        "documents": documents,
        "tokens": len(num_bytes),
        "bytes": int(num_bytes.sum()),
        "bits per byte": {name: round(value, 5) for name, value in bits.items()},
        "differences": compared,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for readings and gates")
    parser.add_argument("--threads", type=int, default=1)
    commands = parser.add_subparsers(dest="command", required=True)
    reading = commands.add_parser("read", help="read the samples of a corpus")
    reading.add_argument("corpus", help="a name for it")
    reading.add_argument("--splits", default=",".join(DOCUMENTS), help="test alone fits no gate")
    reading.add_argument("overrides", nargs="*", help="as of train.py")
    fitting = commands.add_parser("fit", help="fit the gates")
    fitting.add_argument("corpora", nargs="+")
    scoring = commands.add_parser("score", help="score a test sample")
    scoring.add_argument("corpus")
    scoring.add_argument("gates", nargs="+", help="corpora joined by +")
    return parser.parse_args()


if __name__ == "__main__":
    main()
