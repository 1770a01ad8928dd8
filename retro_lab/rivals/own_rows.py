"""The run's own rows among its rivals: its models from chunks.parquet, alone and with a memory."""

from __future__ import annotations

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Method
from retro_lab.evaluation.compressors.outcome import Outcome, Tuning
from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.memory.gate import WIDTH
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.memory import MemoryScoring
from retro_lab.run.model import build_data

from .report import Entry
from .rival_session import RivalSession, size_of

OVER = {"memory": ("on", "baseline"), "plain_memory": ("plain",)}
"""The models that a condition with a memory is mixed into; of two the first that was scored."""
GATE_FLOPS = 4 * WIDTH * WIDTH
"""FLOPs a token of a gate: its two hidden layers, and as many again for its inputs and outputs."""


def own_entries(session: RivalSession, table: ChunkTable) -> list[Entry]:
    """Entries of RETRO, plain model and baseline, then of those with a memory.

    Args:
        table: the run's chunks.parquet.

    Raises:
        UserError: a trained model was not scored.
    """
    models = (name for name in ("on", "plain", "baseline") if name in session.runs)
    alone = {name: _alone(session, name, table) for name in models}
    with_memory = [
        _with_memory(session, name, alone[base], table)
        for name, bases in OVER.items()
        if name in table.nats and (base := next((b for b in bases if b in alone), None))
    ]
    return [*alone.values(), *with_memory]


def _alone(session: RivalSession, name: str, table: ChunkTable) -> Entry:
    """A model's entry, with its seconds of training."""
    config, run = session.config, session.runs[name]
    if name not in table.nats:
        raise UserError(
            f"{run.path} has no scores of {label(name)}",
            fix="evaluate the run again with its baseline in place",
        )
    seconds = _training_seconds(run)
    if name == "on" and config.recipe.method is Method.retrofit:
        seconds += _training_seconds(session.runs["baseline"])
    learned, flops = session.sizes(run, session.retro if name == "on" else session.retro.baseline)
    outcome = Outcome.by_chunk(
        session.text.test,
        table.nats[name],
        tuning=Tuning(),
        seconds=round(seconds, 1),
        parameters=learned,
        datastore_bytes=session.index_bytes(config.retriever) if name == "on" else 0,
        facts=flops,
    )
    return Entry(name, label(name), session.text.test, outcome)


def _with_memory(session: RivalSession, name: str, base: Entry, table: ChunkTable) -> Entry:
    """The entry of a model with the run's memory, which adds what it reads and its building."""
    config, graph = session.config, session.graph
    model = session.load(session.runs[base.name])
    nodes = MemoryScoring(config, graph, build_data(config, graph), base.name, model).nodes
    facts = dict(base.outcome.facts)
    if "flops_per_token" in facts:
        facts["flops_per_token"] += GATE_FLOPS
    built = sum(node.artifact.manifest["seconds"] for node in nodes)
    outcome = Outcome.by_chunk(
        session.text.test,
        table.nats[name],
        tuning=Tuning(),
        seconds=round(base.outcome.seconds + built, 1),
        parameters=base.outcome.parameters,
        datastore_bytes=base.outcome.datastore_bytes + sum(size_of(n.artifact) for n in nodes),
        facts=facts,
    )
    return Entry(name, label(name), session.text.test, outcome)


def _training_seconds(run: RunDirectory) -> float:
    return run.status["seconds"].get("training", 0.0)
