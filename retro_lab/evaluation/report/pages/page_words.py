"""The words of a run's page, each with its meaning, so that the page can be read alone."""

from __future__ import annotations

from collections.abc import Iterable

from ...measure.conditions import in_order, label
from ..table import Table

CONDITIONS = {
    "baseline": "the model without retrieval that retrieval was added to",
    "plain": "the baseline, trained further without retrieval: what a gain is measured against",
    "off": "RETRO without its neighbours (RETRO[OFF] in the paper)",
    "random": "RETRO with random chunks as neighbours: it must do worse than RETRO[ON]",
    "shuffled": "RETRO with the neighbours of other documents' chunks",
    "filtered": "RETRO with leaky neighbours replaced by the next candidates",
    "on": "RETRO with its neighbours",
    "oracle": "RETRO with the chunks that share most with the text to be predicted: an upper bound",
    "memory": "the model mixed with evidence from the database at every token",
    "memory_random": "the same with evidence from other documents' contexts: it must gain nothing",
    "plain_memory": "the plain model mixed with that evidence",
}
FIGURES = {
    "bits per byte": "the cost of the text, over its UTF-8 bytes; lower is better",
    "chunk": "consecutive tokens of one document; the unit that is searched",
    "neighbours": "the chunks of other documents that the search found for a chunk",
    "r(C)": "the longest run of tokens that chunk C shares with the text named, as a share of C; "
    "1 is a whole copy",
    "leakage": "test text that stands in the searched text too; a small r(C) keeps what does not",
    "interval": "in brackets: the range of the figure over sets of documents drawn at random",
}


def words_table(conditions: Iterable[str]) -> Table:
    """The meaning of each of these conditions and of the page's figures; a row a word."""
    shown = [[label(name), CONDITIONS[name]] for name in in_order(conditions) if name in CONDITIONS]
    return Table(["word", "meaning"], [*shown, *map(list, FIGURES.items())], "Words", names=2)
