"""Which detectors see a leak that was edited, and which see one where there is none.

    python benchmarks/detectors.py debug=limit --json benchmarks/detectors.json \
        --figure docs/figures/detectors.png

Takes settings of train.py. Documents of the validation and test splits, cut after 24 chunks, are
scored against the training split (no leak), and against it with a copy of each planted. Copies have
a share of their tokens replaced, or their lines reordered, and begin behind a header of random
length, so that their chunks don't line up with the original's. Scored are whole chunks; a chunk is
clean if it shares no run of more than 8 tokens with the training split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detector_figures import THRESHOLDS, counted, plot, show
from numpy.typing import NDArray

from retro_lab.config.compose import load_config
from retro_lab.evaluation.measure.edits import with_lines_reordered, with_tokens_replaced
from retro_lab.evaluation.measure.leak_detectors import (
    CutText,
    Scores,
    scores_anywhere,
    scores_by_neighbours,
)
from retro_lab.retrieval.base import NO_TOKEN, text_tokens
from retro_lab.retrieval.embed.embedders import build_embedder
from retro_lab.run.data.graph import DataGraph

RATES = (0, 0.05, 0.1, 0.2, 0.4)  # tokens replaced
REORDERED = "reordered"
DOCUMENT_CHUNKS = 24  # read of each held-out document
CLEAN_RUN = 8
SEED = 0


def main() -> None:
    arguments = _arguments()
    if arguments.redraw:
        found = json.loads(arguments.json.read_text())
    else:
        found = measure(arguments.overrides)
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    show(found)
    plot(found, arguments.figure)


def measure(overrides: Sequence[str]) -> dict[str, Any]:
    """The counts of every detector, and how many chunks and documents they are of."""
    graph = DataGraph(load_config(list(overrides)))
    chunks = graph.own.chunks.data
    held, database = held_out(graph), cut_text(graph, chunks.searched)
    unplanted = scores_anywhere(held, database)
    nothing = unplanted | scores_by_neighbours(held, database)
    whole = (held.tokens != NO_TOKEN).all(axis=1)
    clean = nothing["exact_run"] * chunks.chunk_size <= CLEAN_RUN
    planted: dict[str, Scores] = {}
    for number, edit in enumerate((*RATES, REORDERED)):
        copies = planted_copies(graph, held, edit, np.random.default_rng([SEED, number]))
        alone = scores_anywhere(held, copies)
        anywhere = {name: np.maximum(unplanted[name], alone[name]) for name in alone}
        found = anywhere | scores_by_neighbours(held, database.with_more(copies))
        planted[str(edit)] = {name: score[whole] for name, score in found.items()}
        print(f"planted: {edit}", flush=True)
    return counted(
        {name: score[whole] for name, score in nothing.items()},
        planted,
        clean[whole],
        held.document[whole],
    ) | {"database_chunks": len(database.tokens), "thresholds": THRESHOLDS}


def held_out(graph: DataGraph) -> CutText:
    """The first chunks of each document of the validation and test splits."""
    chunks = graph.own.chunks.data
    ids = np.union1d(chunks.chunks_of("validation"), chunks.chunks_of("test"))
    return cut_text(graph, ids[chunks.index[ids] < DOCUMENT_CHUNKS])


def cut_text(graph: DataGraph, ids: NDArray[np.int64]) -> CutText:
    """Chunks `ids` of the store, with their stored vectors."""
    chunks = graph.own.chunks.data
    return CutText(
        text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id),
        chunks.document[ids].astype(np.int64),
        graph.own.embeddings.data.of(ids).astype(np.float32),
    )


def planted_copies(
    graph: DataGraph, held: CutText, edit: float | str, rng: np.random.Generator
) -> CutText:
    """An edited copy of each held-out document, cut into chunks and embedded."""
    chunks, tokenizer = graph.own.chunks.data, graph.tokenizer.data
    text = chunks.tokens[chunks.searched]
    counts = np.bincount(text.reshape(-1), minlength=chunks.vocab_size)
    counts[[chunks.pad_id, chunks.boundary_id]] = 0
    rows, owners = [], []
    for document in np.unique(held.document):
        original = held.tokens[held.document == document]
        tokens = original[original != NO_TOKEN]
        if edit == REORDERED:
            moved = with_lines_reordered(tokenizer.decode(tokens.tolist()), rng)
            tokens = np.asarray(tokenizer.encode_batch([moved])[0][0], np.int32)
        else:
            tokens = with_tokens_replaced(tokens, float(edit), counts, rng)
        size = chunks.chunk_size
        header = rng.choice(len(counts), rng.integers(1, size), p=counts / counts.sum())
        whole = np.concatenate([[NO_TOKEN], header, tokens]).astype(np.int32)
        rows.append(np.pad(whole, (0, -len(whole) % size), constant_values=NO_TOKEN))
        owners.append(np.full(len(rows[-1]) // size, document))
    cut = np.concatenate(rows).reshape(-1, chunks.chunk_size)
    texts = [tokenizer.decode(row[row != NO_TOKEN].tolist()) for row in cut]
    vectors = build_embedder(graph.groups.embedder).embed(texts)
    return CutText(cut, np.concatenate(owners).astype(np.int64), vectors)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="settings of train.py")
    parser.add_argument("--json", type=Path, required=True, help="where the counts go")
    parser.add_argument("--figure", type=Path, required=True, help="a PNG")
    parser.add_argument("--redraw", action="store_true", help="reads --json instead of measuring")
    return parser.parse_args()


if __name__ == "__main__":
    main()
