"""Scores of a run by condition, all on the same tokens; what its files hold already is read.

A model runs only for conditions that are new. Stored scores are taken where run, data, windows and
neighbours are the same; everything else that an evaluation asks for follows from them. Probes that
an earlier evaluation scored stay in the files, whether or not this one asks for them.
"""

from __future__ import annotations

import dataclasses
import logging
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import run_key
from retro_lab.config.refusals import is_refused
from retro_lab.config.schema import Config
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.evaluation.measure.conditions import REFERENCES, WITHOUT_POINTER
from retro_lab.evaluation.measure.metrics import ChunkScores, TokenScores
from retro_lab.evaluation.measure.scoring import score, without_pointer
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.retrieval.filters.shuffled import shuffle_neighbours
from retro_lab.retrieval.table import NeighbourTable, check_coverage
from retro_lab.store import lineage, track
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.tokenizers import Tokenizer

from .backbone import backbone_weights, is_backbone_alone
from .compared import Compared
from .directory import RunDirectory
from .model import LanguageModel, build_model
from .run_data import Prepared
from .stages import Pipeline, oracle_retriever, random_retriever

LOG = logging.getLogger("retro_lab")
PROBES = {
    "random": "random",
    "shuffled": "shuffled",
    "oracle": "oracle",
    "filtered": "max_run",
    WITHOUT_POINTER: "without_pointer",
}
"""Conditions that read something else or in another way, and the setting of `eval` for each."""
SEEDED = ("random", "shuffled")


def conditions(config: Config, compared: Compared) -> list[str]:
    """What an evaluation scores, in the order in which it does."""
    if not config.retriever.retrieves:
        return ["baseline"]
    probes = [name for name, setting in PROBES.items() if getattr(config.eval, setting)]
    if not config.recipe.pointer and WITHOUT_POINTER in probes:
        probes.remove(WITHOUT_POINTER)
    return ["on", "off", *probes, *compared]


def score_conditions(
    config: Config,
    run: RunDirectory,
    out: RunDirectory,
    prepared: Prepared,
    data: RetroDataModule,
    compared: Compared,
) -> dict[str, ChunkScores]:
    """Nats by chunk for each condition, and by token where that is wanted or known.

    Probes that are known and were not asked for come last.

    Args:
        run: has the weights.
        out: may have scores of the same neighbours; another directory than the run's own where
            another database is searched.
        compared: plain models that are scored on the same tokens.

    Raises:
        UserError: the run or one it is compared with has no checkpoint, the model's loss is not
            finite, or a probe has nothing to read.
    """
    wanted = conditions(config, compared)
    key = run_key(run.config())
    held = _stored(config, out, key, prepared, data.stride)
    plain = compared.get("plain")
    if "plain" in held and (plain is None or _plain_key(out) != run_key(plain.config())):
        del held["plain"]
    found = {name: held[name] for name in (*wanted, *PROBES) if name in held}
    if out.path != run.path and "off" not in found:  # which reads nothing of any database
        own = _stored(config, run, key, _alone(prepared), data.stride)
        found |= {"off": own["off"]} if "off" in own else {}
    missing = [n for n in wanted if n not in found or not _suffices(config, found[n])]
    if read := [name for name in wanted if name not in missing]:
        LOG.info("scores read from %s: %s", out.path, ", ".join(read))
    # All of them first: one that can't be made is said before the model runs.
    for name in compared.keys() & set(missing):
        compared[name].check_text(lineage(prepared.pipeline.chunks))
    tables = {name: _neighbours(config, prepared, name) for name in missing}
    model = None
    for name in missing:
        if name in compared:
            found[name] = _compared(config, prepared, name, compared[name], found["on"], data)
            continue
        model = model or load_model(config, run, prepared)
        with without_pointer(model) if name == WITHOUT_POINTER else nullcontext():
            found[name] = _score(config, model, data, prepared, tables[name], name)
    return {name: found[name] for name in (*wanted, *found)}


def _suffices(config: Config, scores: ChunkScores) -> bool:
    """Whether they are there by token, if that is wanted."""
    return scores.by_token is not None or not config.eval.wants_tokens


def _neighbours(config: Config, prepared: Prepared, condition: str) -> NeighbourTable | None:
    """What the model reads under a condition; None is nothing."""
    if condition in REFERENCES:
        return None
    assert prepared.table is not None
    if condition == "random":
        return prepared.pipeline.open_table(random_retriever(config))
    if condition == "oracle":
        return prepared.pipeline.open_table(oracle_retriever())
    if condition == "shuffled":
        chunks = prepared.chunks
        return shuffle_neighbours(prepared.table, chunks, config.eval.split, config.eval.seed)
    if condition == "filtered":
        return _filtered(config, prepared.pipeline)
    return prepared.table


def _filtered(config: Config, pipeline: Pipeline) -> NeighbourTable:
    """The run's neighbours as `eval.max_run` leaves them, the next candidates in the places left.

    Raises:
        UserError: too few candidates in the scored split.
    """
    evaluation = config.eval
    artifact = pipeline.build_table(pipeline.config.retriever, pipeline.stricter_filters)
    filled = {"filled": {evaluation.split: artifact.stats["filled"][evaluation.split]}}
    k = config.scored_k
    try:
        check_coverage(filled, k, config.neighbours.min_coverage)
    except UserError as error:
        raise UserError(
            f"eval.max_run={evaluation.max_run}: {error.message}",
            fix="raise eval.max_run, or leave it out with eval.max_run=null",
        ) from error
    return NeighbourTable.open(artifact.path)


def load_model(config: Config, run: RunDirectory, prepared: Prepared) -> LanguageModel:
    """The run's trained model, in evaluation mode, to meet this text.

    Raises:
        UserError: as `open_model`, and if the run was trained on other text.
    """
    run.check_text(lineage(prepared.pipeline.chunks))
    return open_model(config, run, prepared.chunks)


def open_model(config: Config, run: RunDirectory, ids: ChunkStore | Tokenizer) -> LanguageModel:
    """The run's trained model, in evaluation mode.

    Args:
        ids: says how many there are and which one is padding.

    Raises:
        UserError: if the run has no checkpoint, or one of another model or vocabulary.
    """
    model = build_model(config, ids.vocab_size, ids.pad_id)
    try:
        if is_backbone_alone(config):
            model.load_backbone(backbone_weights(config))
        else:
            model.load_state_dict(run.weights())
    except RuntimeError as error:
        if is_refused(error):
            raise
        raise UserError(
            f"the checkpoint of {run.path} does not fit its configuration and its tokenizer "
            f"({ids.vocab_size} ids): {str(error).splitlines()[-1].strip()}",
            fix="restore config.yaml and the tokenizer that the run was trained with",
        ) from error
    device = "cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"
    return model.to(device).eval()


def _score(
    config: Config,
    model: LanguageModel,
    data: RetroDataModule,
    prepared: Prepared,
    table: NeighbourTable | None,
    what: str,
) -> ChunkScores:
    loader = data.evaluation_loader(config.eval.split, table)
    windows = len(loader.dataset)  # pyright: ignore[reportArgumentType]
    with track(windows, f"scoring {what}", "windows") as advance:
        return score(
            model,
            loader,
            prepared.chunks.num_chunks,
            chunk_size=prepared.chunks.chunk_size,
            pad_id=prepared.chunks.pad_id,
            retrieval=table is not None,
            by_token=config.eval.wants_tokens,
            advance=advance,
        )


def _compared(
    config: Config,
    prepared: Prepared,
    name: str,
    other: RunDirectory,
    same_tokens: ChunkScores,
    data: RetroDataModule,
) -> ChunkScores:
    """Read from the other run's own files if it was evaluated likewise, else scored anew."""
    own, alone = dataclasses.replace(other.config(), eval=config.eval), _alone(prepared)
    stored = _stored(own, other, run_key(own), alone, data.stride).get("baseline")
    if (
        stored is not None
        and _suffices(own, stored)
        and np.array_equal(stored.tokens, same_tokens.tokens)
    ):
        return stored
    model = load_model(own, other, alone)
    return _score(config, model, data, prepared, None, name)


def _plain_key(out: RunDirectory) -> str | None:
    """Key of the plain model whose scores a directory holds."""
    plain = Results.load(out.results_file).plain
    return None if plain is None else plain.run_key


def _alone(prepared: Prepared) -> Prepared:
    """The same chunks for what reads no neighbours: its scores follow from the run's own text."""
    text = lineage(prepared.pipeline.chunks)
    return dataclasses.replace(prepared, table=None, lineage=text)


def _stored(
    config: Config,
    run: RunDirectory,
    key: str,
    prepared: Prepared,
    stride: int,
) -> dict[str, ChunkScores]:
    """The conditions that a directory holds, by token where it has that; none unless they fit.

    Args:
        key: of the run that was scored.
    """
    if run.evaluation is None:
        return {}
    try:
        results, table = Results.load(run.results_file), ChunkTable.load(run.chunks_file)
        tokens = TokenTable.load(run.tokens_file) if run.tokens_file.is_file() else None
    except UserError as error:
        LOG.warning("%s; it is scored anew", error.message)
        return {}
    settings = results.evaluation
    known = {stage: results.lineage.get(stage) for stage in prepared.lineage}
    same = (
        results.run_key == key
        and known == prepared.lineage
        and (prepared.table is None or len(known) == len(results.lineage))
        and (settings.split, settings.stride) == (config.eval.split, stride)
    )
    rows = scored_rows(prepared, config.eval.split)
    if not same or len(rows) != len(table):
        return {}
    if prepared.table is not None:
        k = config.scored_k
        read = neighbours_read(prepared, prepared.table.ids, rows, k)
        if not _same_neighbours(read, table.neighbours):
            return {}
    names = list(table.nats)
    if results.config["eval"]["seed"] != config.eval.seed:
        names = [name for name in names if name not in SEEDED]
    asked = config.scored_max_run
    if asked not in (None, settings.max_run):
        names = [name for name in names if name != "filtered"]
    return {name: _of_table(table, tokens, name, rows, prepared) for name in names}


def _of_table(
    table: ChunkTable,
    tokens: TokenTable | None,
    name: str,
    rows: NDArray[np.int64],
    prepared: Prepared,
) -> ChunkScores:
    """One condition of a table as it was scored."""
    chunks = prepared.chunks

    def spread(values: NDArray) -> NDArray:
        column = np.zeros(chunks.num_chunks, values.dtype)
        column[rows] = values
        return column

    each = None
    if tokens is not None and name in tokens.nats:
        each = TokenScores(
            np.zeros(chunks.tokens.shape, np.float64), np.zeros(chunks.tokens.shape, np.bool_)
        )
        place = rows[tokens.chunk_row], tokens.place
        each.nats[place] = tokens.nats[name]
        each.with_retrieval[place] = tokens.with_retrieval
    return ChunkScores(
        spread(table.nats[name]),
        spread(table.tokens),
        spread(table.bytes),
        spread(table.with_retrieval),
        each,
    )


def scored_rows(prepared: Prepared, split: str) -> NDArray[np.int64]:
    """Ids of a split's chunks that hold text to score, ascending."""
    chunks = prepared.chunks
    ids = chunks.chunks_of(split)
    tokens = np.asarray(chunks.tokens[ids])
    return ids[((tokens != chunks.pad_id) & (tokens != chunks.boundary_id)).any(axis=1)]


def neighbours_read(
    prepared: Prepared, values: NDArray, rows: NDArray[np.int64], k: int
) -> NDArray:
    """[S, k] values of the neighbours read while each chunk is predicted: the previous one's.

    Args:
        values: [C, k_store], the table's ids or scores; a document's first chunk gets -1.
    """
    read = np.array(values[np.maximum(rows - 1, 0), :k])
    read[prepared.chunks.index[rows] == 0] = -1
    return read


def _same_neighbours(read: NDArray, stored: NDArray) -> bool:
    """Whether [S, k] and what was stored of it name the same; a file drops slots empty for all."""
    width = stored.shape[1]
    missing = bool((read[:, width:] == -1).all())
    return missing and np.array_equal(_left(read[:, :width]), _left(stored))


def _left(ids: NDArray) -> NDArray:
    """Present ids first, as files hold them."""
    return np.take_along_axis(ids, np.argsort(ids == -1, axis=1, kind="stable"), axis=1)
