"""Group `memory`: evidence from the database for the next token, mixed into the language model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UserError, problem
from .setting import setting

FAMILIES = ("suffix", "topic", "knn")
"""Kinds of evidence that a memory may read."""
SHIPPED = {"suffix", "topic"}
"""Kinds of evidence that the gate of the package mixes."""
_TRAINABLE = "memory=suffix_topic with memory.gate=fitted"


@dataclass
class MemoryConfig:
    """A memory read at every token; it needs no training of the model, only of a small gate.

    Attributes:
        name: the option's name.
        experts: kinds of evidence. `suffix`: what followed the last tokens anywhere in the
            database; `topic`: the same, with documents like the text before counted for more;
            `knn`: what followed states of the language model like this one, in the training split.
        cache: also read what followed the last tokens earlier in the same document. This is no
            retrieval, so its share of a gain is reported apart.
        max_run: leaves out evidence from places that match more than this many tokens; null reads
            all.
        gate: `fitted` fits a gate for the language model; `shipped` takes the one that comes with
            the package, for suffix and topic, so that nothing at all is trained. Controls then
            have the same gate, and no kind of evidence is scored alone.
        gate_tokens: tokens of training documents that the gate is fitted on; each document's own
            text is left out of its evidence.
        joint: share of the training steps, the last ones, whose loss is that of the mixture with
            the memory instead of the model's alone; 0 trains the model alone.
    """

    name: str = setting("none", identity=False)
    experts: list[str] = setting([])
    cache: bool = False
    max_run: int | None = setting(None, at_least=1)
    gate: str = setting("fitted", choices=("fitted", "shipped"), neutral="fitted")
    gate_tokens: int = setting(100_000, at_least=1_000, at_most=10**9)
    joint: float = setting(0.0, at_least=0, below=1, neutral=0.0)

    @classmethod
    def of(cls, *experts: str) -> MemoryConfig:
        """A memory of these kinds of evidence."""
        return cls(name="_".join(experts), experts=list(experts))

    @property
    def reads(self) -> bool:
        """Whether anything is read."""
        return bool(self.experts) or self.cache

    def problems(self, prefix: str) -> Iterator[UserError]:
        chosen = self.experts
        if not set(chosen) <= set(FAMILIES) or len(set(chosen)) < len(chosen):
            yield problem(
                f"{prefix}experts",
                chosen,
                f"must be some of {', '.join(FAMILIES)}, each of them once",
                "memory=suffix_topic",
            )
        elif "topic" in chosen and "suffix" not in chosen:
            yield problem(
                f"{prefix}experts",
                chosen,
                "topic weighs the evidence of suffix, so it needs suffix too",
                "memory=suffix_topic",
            )
        elif self.gate == "shipped" and (set(chosen) != SHIPPED or self.cache):
            yield problem(
                f"{prefix}gate",
                self.gate,
                "the gate that comes with the package mixes suffix and topic, no more and no less",
                f"{prefix}gate=fitted, or memory=suffix_topic without {prefix}cache",
            )
        elif self.joint and (rule := self._untrainable):
            yield problem(f"{prefix}joint", self.joint, rule, f"{prefix}joint=0, or {_TRAINABLE}")

    @property
    def _untrainable(self) -> str | None:
        """Why no model can be trained through this memory; None if one can."""
        if not self.experts:
            return f"trains a model through its memory, and memory={self.name} reads no database"
        if "knn" in self.experts:
            return "knn searches states of the trained model, which change at every step"
        if self.gate == "shipped":
            return "its first step fits a gate, and with gate=shipped none is fitted"
        return None
