"""Where a run's gain comes from: tables and a plot, and a page that shows the text itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.config.schema import Config, Reference, resolve_k
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.evaluation.chunk_table import ChunkTable
from retro_lab.evaluation.gain import Gain, gain
from retro_lab.evaluation.inspect_data import InspectedDocument, Inspection
from retro_lab.evaluation.inspect_page import write_page
from retro_lab.evaluation.leakage import Leakage
from retro_lab.evaluation.plots import plot_gain

from .build import LanguageModel
from .run_directory import RunDirectory
from .stages import Pipeline, Prepared

IGNORED = -100


def plot_sources(
    config: Config, run: RunDirectory, table: ChunkTable, leakage: Leakage
) -> Gain | None:
    """Writes gain.png and returns the analysis; None for a run with nothing to compare with."""
    other = "baseline" if "baseline" in table.nats else "off"
    if not {"on", other} <= set(table.nats):
        return None
    found = gain(table, leakage.bootstrap, b=other)
    plot_gain(
        found,
        run.path / "gain.png",
        corpus=config.corpus.name,
        model=f"{config.model.name}, {config.retriever.name}, "
        f"k={resolve_k(config.eval, config.neighbours)}",
        reference=leakage.reference,
    )
    return found


def write_inspection(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    data: RetroDataModule,
    model: LanguageModel,
    found: Gain,
) -> None:
    """Writes inspect.html: the documents that gained most and least, token by token.

    The gain of a token is what retrieval saves on it: nats with retrieval off less nats with it on.
    """
    assert prepared.table is not None
    ids = prepared.corpus.ids
    most, least = found.ends(config.eval.pages)
    names = list(dict.fromkeys(part.name for part in [*most, *least]))
    documents = [ids.index(name) for name in names]
    saved = _saved_nats(config, prepared, data, model, documents)
    inspection = Inspection(
        prepared.chunks,
        prepared.corpus,
        prepared.table,
        resolve_k(config.eval, config.neighbours),
        config.chunking.continuation_chunks,
    )
    matching = _matching(config, prepared)
    write_page(
        list(_documents(inspection, documents, saved, matching)),
        run.path / "inspect.html",
        title=run.path.name,
        description="Each token is coloured by what reading the neighbours saved on it: nats with "
        "retrieval off less nats with it on.",
        minimum_run=inspection.minimum_run,
    )


def _documents(
    inspection: Inspection,
    documents: list[int],
    saved: NDArray[np.float64],
    matching: NDArray[np.integer] | None,
) -> Iterator[InspectedDocument]:
    for document in documents:
        first, last = inspection.chunks.first_chunk[document : document + 2]
        rows = slice(int(first), int(last))
        yield inspection.document(
            document, saved[rows], None if matching is None else matching[rows]
        )


def _saved_nats(
    config: Config,
    prepared: Prepared,
    data: RetroDataModule,
    model: LanguageModel,
    documents: list[int],
) -> NDArray[np.float64]:
    """[C, M] nats saved on each token of the documents; NaN where nothing was scored."""
    chunks = prepared.chunks
    saved = np.full((chunks.num_chunks, chunks.chunk_size), np.nan)
    wanted = torch.tensor(documents)
    for batch in data.evaluation_loader(config.eval.split, prepared.table):
        rows = torch.isin(batch["document_ids"][:, 0], wanted)
        if not rows.any():
            continue
        part = {name: tensor[rows] for name, tensor in batch.items()}
        off, on = (_nats(model, part, neighbours) for neighbours in (None, part["neighbour_ids"]))
        scored = (part["targets"] != IGNORED).numpy()
        # Position t predicts token t + 1, which stands at (t + 1) mod M of its chunk.
        place = np.broadcast_to((np.arange(scored.shape[1]) + 1) % chunks.chunk_size, scored.shape)
        saved[part["target_chunks"].numpy()[scored], place[scored]] = (off - on)[scored]
    return saved


@torch.inference_mode()
def _nats(
    model: LanguageModel, batch: dict[str, torch.Tensor], neighbours: torch.Tensor | None
) -> NDArray[np.float64]:
    device = next(model.parameters()).device
    tensors = [batch["input_ids"], batch["targets"], neighbours, batch["document_ids"]]
    on_device = [None if tensor is None else tensor.to(device) for tensor in tensors]
    input_ids, targets, neighbour_ids, document_ids = on_device
    assert input_ids is not None
    assert targets is not None
    nats = model.token_nats(input_ids, targets, neighbour_ids, document_ids)
    return nats.double().cpu().numpy()


def _matching(config: Config, prepared: Prepared) -> NDArray[np.integer] | None:
    """[C, M] longest run from each token that stands in the training text, where it is known."""
    if config.eval.reference is not Reference.exact_corpus:
        return None
    chunks = prepared.chunks
    matching = np.zeros((chunks.num_chunks, chunks.chunk_size), np.int64)
    path = Pipeline(config).build_overlap().file("matching.npy")
    matching[chunks.chunks_of(config.eval.split)] = np.load(path, allow_pickle=False)
    return matching
