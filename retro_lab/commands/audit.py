"""`python -m retro_lab audit`: are a scorer's figures valid, and is the text in its data?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retro_lab.config import arguments
from retro_lab.config.arguments import key, parse
from retro_lab.config.errors import UserError

if TYPE_CHECKING:
    from retro_lab.audit.audit import Audit, Given, Settings

USAGE = """usage: python -m retro_lab audit <what> text=FILE [train=FILE ...] [out=FOLDER]

Checks the scores of any language model: every byte is scored once, probabilities sum to one, a
score does not change with later text, nothing is learned before it is scored, and one pass is
enough. Measures how much of the text stands in the training text. <what> is one of:
  scores=scores.parquet     a row a token: document, start and stop (or bytes), nats; or .jsonl
  scorer=package.module:C   a class or function of your own; docs/audit.md shows one
  model=FOLDER              a Hugging Face model, by folder or name
  run=runs/...              a finished run with tokens.parquet (eval.tokens=true); needs no text
With scores= and a scorer= or model=, the file's scores are compared with the scorer's.
  text=test.jsonl           the scored text: .jsonl .csv .parquet .txt, also compressed, or a folder
  train=train.jsonl         the text trained on; may be given several times
  text_field=text id_field=id   fields of a document's text and id
  out=audit                 folder of audit.html, audit.json and the exports
  condition=on              scores of a run to audit
  learns=on                 the scorer learns from documents that it has scored
  sample=8                  documents that a scorer is asked about
  tolerance=0.001           greatest difference that passes, in nats
  min_run=100               bytes of a shared run that count (at most 256)
  leaked_share=0.5          share of a document in such runs that makes it leaked
Exit code: 0 if no check failed, 1 if one failed, 2 for bad input."""
FAILED = 1


@dataclass(frozen=True)
class Request:
    """The command's arguments; see `USAGE`."""

    scores: Path | None = key(None, example="scores.parquet")
    scorer: str | None = key(None, example="package.module:Class")
    model: str | None = key(None, example="FOLDER")
    run: Path | None = key(None, example="runs/...")
    text: Path | None = key(None, example="test.jsonl")
    train: tuple[Path, ...] = key((), example="train.jsonl")
    text_field: str = "text"
    id_field: str = "id"
    out: Path = key(Path("audit"), example="FOLDER")
    condition: str | None = None
    learns: bool = False
    sample: int = key(8, least=1)
    tolerance: float = key(1e-3, above=0)
    min_run: int = key(100, least=1, most=256)
    leaked_share: float = key(0.5, above=0, most=1)


def main(argv: Sequence[str]) -> int:
    """Exit code of `audit <argv>`."""
    return arguments.run(argv, USAGE, lambda argv: _audit(parse(argv, Request, "audit")))


def _audit(request: Request) -> int:
    _check(request)
    from retro_lab.audit.audit import Settings, audit
    from retro_lab.audit.exports import write_exports
    from retro_lab.audit.page import write_page

    settings = Settings(
        request.learns,
        request.sample,
        request.tolerance,
        request.min_run,
        request.leaked_share,
    )
    done = audit(_given(request, settings), settings)
    request.out.mkdir(parents=True, exist_ok=True)
    write_exports(done, request.out)
    page = write_page(done, request.out)
    _show(done)
    print(f"\n{page}: the whole audit; audit.json and exports lie beside it")
    return FAILED if done.failed else 0


def _check(request: Request) -> None:
    given = {name: getattr(request, name) for name in ("scores", "scorer", "model", "run")}
    named = [name for name, value in given.items() if value is not None]
    what = "scores=..., scorer=..., model=... or run=..."
    if not named:
        raise UserError("audit needs something to audit", fix=f"add {what}")
    if len(named) > 1 and named not in (["scores", "scorer"], ["scores", "model"]):
        raise UserError(f"audit was given {' and '.join(named)}", fix=f"give one of {what}")
    if request.run is None and request.text is None:
        raise UserError("audit needs the text that was scored", fix="add text=test.jsonl")
    if request.run is not None and (request.text is not None or request.train):
        raise UserError(
            "a run has its own text and training text", fix="leave out text= and train="
        )
    if request.condition is not None and request.run is None:
        raise UserError("condition= is of a run's scores", fix="leave it out, or give run=...")


def _given(request: Request, settings: Settings) -> Given:
    from retro_lab.audit.audit import Given
    from retro_lab.audit.texts import Fields, read_scored, training_text

    if request.run is not None:
        from retro_lab.audit.run_scores import read_run

        run = read_run(request.run, request.condition)
        what = f"the scored split of {request.run.name}"
        return Given(run.name, what, run.texts, run.scores, None, run.training_text())
    assert request.text is not None
    fields = Fields(request.text_field, request.id_field)
    texts, scores, subject = read_scored(request.text, fields), None, None
    if request.scorer is not None:
        from retro_lab.audit.scorer import import_scorer

        subject = import_scorer(request.scorer, settings.learns)
    elif request.model is not None:
        from retro_lab.audit.hugging_face import open_model

        subject = open_model(request.model)
    if request.scores is not None:
        from retro_lab.audit.scores import read_scores

        scores = read_scores(request.scores, texts)
    name = str(request.scores or request.scorer or request.model)
    train = training_text(request.train, fields) if request.train else None
    return Given(name, str(request.text), texts, scores, subject, train)


def _show(done: Audit) -> None:
    from rich.console import Console

    from retro_lab.audit.page import checks_table, curve_table, described

    console = Console(highlight=False)
    console.print(described(done), markup=False)
    for table in (checks_table(done), *([curve_table(done)] if done.leaked is not None else [])):
        console.print(table)
    for check in done.checks:
        if check.passed is not True:
            console.print(f"{check.name}: {check.words}", markup=False)
