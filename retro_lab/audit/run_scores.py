"""The scores of a finished run of this project, its text, and the text that could have leaked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from retro_lab.config.errors import UserError
from retro_lab.evaluation.records.chunk_table import PREFIX
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.run.finished import FinishedRun
from retro_lab.text.corpus import Corpus

from .scores import NOTHING, Scores, TokenScores
from .texts import Text


class RunText(NamedTuple):
    """What an audit needs of a run.

    Attributes:
        name: of the run and the condition.
        texts: the documents of the scored split.
        scores: of this condition.
        train: the corpora whose training documents could have leaked.
    """

    name: str
    texts: list[Text]
    scores: Scores
    train: Corpus

    def training_text(self) -> Iterator[bytes]:
        """Documents of the training split and the database, in UTF-8."""
        return (self.train.raw(int(number)) for number in self.train.documents_of("train"))


def read_run(path: Path, condition: str | None) -> RunText:
    """The token scores of a run's own evaluation, or of its first one that has tokens.parquet.

    Args:
        condition: whose scores; by default "on", or the first one of a run without retrieval.

    Raises:
        UserError: the run has no tokens.parquet, or not this condition.
    """
    run = FinishedRun.open(path, "finished")
    folders = [run.out, *run.out.evaluations]
    scored = next((folder for folder in folders if folder.tokens_file.is_file()), run.out)
    table = TokenTable.load(scored.tokens_file)
    if condition is None:
        condition = "on" if "on" in table.nats else next(iter(table.nats))
    if condition not in table.nats:
        fix = " or ".join(f"condition={name}" for name in table.nats)
        raise UserError(f"{path} has no scores of condition={condition}", fix=fix)
    names = pq.read_table(scored.tokens_file, columns=["document_id"])
    encoded = names["document_id"].combine_chunks()
    corpus = run.graph.own.corpus.data
    texts, scores = [], []
    rows = _rows(encoded.to_pylist())
    for number in corpus.documents_of(Results.load(scored.results_file).evaluation.split).tolist():
        raw = corpus.raw(number)
        texts.append(Text(corpus.ids[number], raw.decode(), raw))
        found = rows.pop(texts[-1].id, None)
        scores.append(NOTHING if found is None else _document(table, condition, found))
    unknown = sum(map(len, rows.values()))
    name = f"{path.name}, {PREFIX}{condition}"
    return RunText(name, texts, Scores(scores, unknown), run.graph.leakable.corpus)


def _rows(names: list[str]) -> dict[str, np.ndarray]:
    """The rows of each document."""
    unique, number = np.unique(np.array(names, object).astype(str), return_inverse=True)
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(1, len(unique)))
    return dict(zip(unique.tolist(), np.split(order, ends), strict=True))


def _document(table: TokenTable, condition: str, rows: np.ndarray) -> TokenScores:
    num_bytes = table.bytes[rows].astype(np.int64)
    stop = np.cumsum(num_bytes)
    ids = table.token_id[rows].astype(np.int64)
    return TokenScores(stop - num_bytes, stop, table.nats[condition][rows], ids)
