"""A run and its training, foretold, in words: a line a figure."""

from __future__ import annotations

from retro_lab.config.errors import as_text
from retro_lab.config.schema import Config
from retro_lab.run.backbone import with_backbone

from .plan_tables import in_bytes, in_time
from .training import USUAL, Machine, Training


def run_in_words(config: Config, parameters: int) -> dict[str, str]:
    """What a run is, by name: sizes, windows, steps and what it retrieves.

    Raises:
        UserError: a backbone can't be read.
    """
    config = with_backbone(config)
    chunking = config.chunking
    rows = {
        "parameters": f"{parameters:,}",
        "windows": f"{chunking.sequence_length} tokens = "
        f"{chunking.sequence_length // chunking.chunk_size} chunks of {chunking.chunk_size}, "
        f"evaluated every {config.scored_stride} tokens",
        "training": f"{config.schedule.steps} steps of {config.schedule.batch_size} windows",
    }
    if config.retriever.retrieves:
        length = chunking.chunk_size * (1 + chunking.continuation_chunks)
        rows["CCA"] = f"layers {as_text(config.cca_layers)} of {config.model.num_layers}"
        rows["neighbours"] = (
            f"{config.neighbours.k} of {length} tokens a chunk, found by {config.retriever.name}"
        )
        rows["database"] = (
            f"chunks of {config.database.in_words()}, never of the document that they are read in"
        )
    else:
        rows["retrieval"] = "none: this is a baseline"
    return rows


def in_words(training: Training, machine: Machine) -> dict[str, str]:
    """Tokens, corpus, memory and time of a training; nothing for a model that is only evaluated."""
    if not training.tokens:
        return {}
    share = training.tokens / training.trained
    told = f"{training.tokens:,} to train on, {share:.2g} a parameter (usual: {USUAL})"
    rows = {"tokens": told}
    if training.text_bytes is not None and training.epochs is not None:
        rows["corpus"] = (
            f"about {in_bytes(training.text_bytes)} of text; its training part is read "
            f"{training.epochs:,.1f} times"
        )
    here = "" if machine.memory is None else f", of {in_bytes(machine.memory)} here"
    rows["memory"] = f"about {in_bytes(training.memory)} to train{here}"
    seconds = training.seconds(machine)
    if seconds is not None:
        least, most = map(in_time, seconds)
        rows["time"] = f"about {least} to {most} to train all models here"
    elif machine.rate is None:
        rows["time"] = "unknown: there is no GPU here"
    return rows
