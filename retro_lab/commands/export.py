"""`python -m retro_lab export run=... out=...`: writes a run as a Hugging Face model folder."""

from __future__ import annotations

import filecmp
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from retro_lab.config import arguments
from retro_lab.config.arguments import key, parse
from retro_lab.config.errors import UserError
from retro_lab.config.refusals import writing
from retro_lab.config.schema import MemoryConfig

LOG = logging.getLogger("retro_lab")
USAGE = """usage: python -m retro_lab export run=runs/... out=FOLDER [licence=...] [memory=...]

Writes a finished run as a Hugging Face model: config.json, model.safetensors, the tokenizer, and a
model card (README.md) with the run's figures. After `import retro_lab.huggingface`,
AutoModelForCausalLM.from_pretrained("FOLDER") loads it.
  licence=apache-2.0   licence of the weights, for the model card; "other" by default
  memory=suffix_topic  also writes FOLDER/memory, the database's text as token ids with a gate, for
                       MemoryLogitsProcessor.from_pretrained (docs/memory.md); or suffix"""


@dataclass(frozen=True)
class Request:
    """The command's arguments; see `USAGE`."""

    run: Path = key(example="runs/..., a finished run's directory")
    out: Path = key(example="FOLDER")
    licence: str = "other"
    memory: str | None = key(None, choices=("suffix", "suffix_topic"))


def main(argv: Sequence[str]) -> int:
    """Exit code of `export <argv>`."""
    return arguments.run(argv, USAGE, lambda argv: export(parse(argv, Request, "export")))


def export(request: Request) -> None:
    """Writes the model folder atomically; a folder that already holds this export is kept.

    The run's directory is only read.

    Raises:
        UserError: the run is not finished, or the folder has other content or can't be made.
    """
    from retro_lab.run.finished import FinishedRun

    run, out = FinishedRun.open(request.run, "finished"), request.out
    here = out.resolve() == Path.cwd()  # the working directory must not be replaced
    if out.exists() and (here or not out.is_dir() or not _may_be_export(out)):
        raise _taken(out)
    from retro_lab.config.console import no_loading_bar
    from retro_lab.evaluation.report.model_card import model_card
    from retro_lab.huggingface import RetroForCausalLM
    from retro_lab.text.tokenizers.fast import as_fast

    tokenizer, length = run.tokenizer, run.config.chunking.sequence_length
    model = RetroForCausalLM.of(
        run.model().cpu(),
        max_position_embeddings=length,
        bos_token_id=tokenizer.boundary_id,
        eos_token_id=tokenizer.boundary_id,
        pad_token_id=tokenizer.pad_id,
    )
    if tokenizer.pad_id < model.config.vocab_size:
        model.generation_config.suppress_tokens = [tokenizer.pad_id]
    card = model_card(run.results(), out.name, request.licence)
    with _publishing(out) as partial:
        with no_loading_bar():
            model.save_pretrained(partial)
        as_fast(tokenizer, length).save_pretrained(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        if request.memory is not None:
            from retro_lab.run.attached_memory import AttachedMemory

            asked = MemoryConfig.of(*request.memory.split("_"))
            AttachedMemory(request.run, asked).write(partial / "memory")
    print(f"{out}: a Hugging Face model; its README.md says how to load it")


def _may_be_export(out: Path) -> bool:
    """Whether a folder is empty or looks like an export; `_publish` compares its files."""
    return not any(out.iterdir()) or (out / "model.safetensors").is_file()


def _taken(out: Path, differing: str = "") -> UserError:
    words = f", and its {differing} is not of this export" if differing else ""
    return UserError(f"{out} is there already{words}", fix="give the name of a new folder")


@contextmanager
def _publishing(out: Path) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `out` at the end; concurrent exports wait for a lock.

    Raises:
        UserError: `out` can't be made, or has other content.
        OSError: naming `out`, if a file can't be written.
    """
    partial, lock = (out.with_name(f".{out.name}.{end}") for end in ("partial", "lock"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    except OSError as error:
        words = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(
            f"out={out} cannot be made: {words}", fix="give a folder where you may write"
        ) from None
    with held, writing(out):
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
            partial.mkdir()
            yield partial
            _publish(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _publish(partial: Path, out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        for name in sorted({path.name for folder in (partial, out) for path in folder.iterdir()}):
            if not _same(partial / name, out / name):
                raise _taken(out, name)
        return
    if out.exists():
        out.rmdir()
    partial.replace(out)


def _same(one: Path, other: Path) -> bool:
    if one.is_dir() and other.is_dir():
        names = {path.name for folder in (one, other) for path in folder.iterdir()}
        return all(_same(one / name, other / name) for name in names)
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
