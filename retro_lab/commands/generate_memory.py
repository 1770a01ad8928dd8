"""What `generate ... show=memory` prints: which tokens a text owes to its memory, and to what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .generate_neighbours import in_a_line

if TYPE_CHECKING:
    from retro_lab.run.attached_memory import Source

_HALF = 0.5


def memory_lines(sources: Sequence[Source]) -> Iterator[str]:
    """A summary, then a line for each stretch of tokens that the memory gave more than half of."""
    shares = [source.share or 0.0 for source in sources]
    mean = sum(shares) / max(1, len(shares))
    yield f"[the memory gave {100 * mean:.0f} % of the probability of {len(shares)} tokens]"
    for part in _stretches(sources):
        text = " ".join("".join(source.token for source in part).split())
        best = max(part, key=lambda source: source.match)
        share = sum(source.share or 0.0 for source in part) / len(part)
        yield f"  {text!r}  {100 * share:.0f} %, after {best.match} equal tokens in"
        for document, snippet in best.snippets.items():
            yield in_a_line(f"    {document}  ...", snippet, "...")


def _stretches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Runs of tokens with a share of more than half."""
    part: list[Source] = []
    for source in sources:
        if (source.share or 0.0) > _HALF:
            part.append(source)
        elif part:
            yield part
            part = []
    if part:
        yield part
