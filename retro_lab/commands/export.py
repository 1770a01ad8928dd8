"""`python -m retro_lab export run=... out=...`: writes a run as a Hugging Face model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config import arguments
from retro_lab.config.arguments import key, parse

USAGE = """usage: python -m retro_lab export run=runs/... out=FOLDER [key=value ...]

Writes a finished run as a Hugging Face model: config.json, model.safetensors, the tokenizer, and a
model card (README.md) with the run's figures. After `import retro_lab.huggingface`,
AutoModelForCausalLM.from_pretrained("FOLDER") loads it.
  licence=apache-2.0   licence of the weights, for the model card; "other" by default
  database=true        also writes FOLDER/database: index, tokenizer and text of the run's database,
                       so that the model retrieves by itself (docs/huggingface.md)
  memory=suffix_topic  also writes FOLDER/memory, the database's text as token ids with a gate, for
                       MemoryLogitsProcessor.from_pretrained (docs/memory.md); or suffix
  push=ORG/NAME        also sends the folder to the Hugging Face hub, as a private model"""


@dataclass(frozen=True)
class Request:
    """The command's arguments; see `USAGE`."""

    run: Path = key(example="runs/..., a finished run's directory")
    out: Path = key(example="FOLDER")
    licence: str = "other"
    database: bool = False
    memory: str | None = key(None, choices=("suffix", "suffix_topic"))
    push: str | None = None


def main(argv: Sequence[str]) -> int:
    """Exit code of `export <argv>`."""
    return arguments.run(argv, USAGE, lambda argv: export(parse(argv, Request, "export")))


def export(request: Request) -> None:
    """Writes the folder, and says where it is.

    Raises:
        UserError: `push` names no model of the hub, the run is not finished, the folder has other
            content or can't be made, or the hub refuses.
    """
    from retro_lab.run.finished import FinishedRun

    run = FinishedRun.open(request.run, "finished")
    from retro_lab.api import exporting

    if request.push is not None:
        exporting.check_push(request.push)
    exporting.export(
        run,
        request.out,
        licence=request.licence,
        memory=request.memory,
        database=request.database,
    )
    print(f"{request.out}: a Hugging Face model; its README.md says how to load it")
    if request.push is not None:
        print(f"sent to {exporting.push(request.out, request.push)}")
