"""Learned weightings of the nearest states: heads, each softmax(-d / T + b[m]).

Here d is the squared distance of a neighbour, and m the number of last tokens that agree with those
before it. Each head has a T > 0 and a b for every m. They are fitted on states of the database
itself, without the language model: by maximum likelihood of the heads mixed with the tokens'
frequencies. A small gate gives the shares of this mixture; only the heads are kept.

Legend: T tokens, K neighbours, E heads, M match lengths, S numbers of a summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro_lab.store import Artifact, Stage, Workspace

from .context_evidence import shares
from .datastore import Datastore
from .gate import Gate, differentiable_nats
from .neighbours import LONGEST_MATCH, Neighbours, StateSearch

VERSION = 1
HEADS = 3
SAMPLE = 10_000
"""Tokens of the database that the heads are fitted on."""
STEPS = 400
BATCH = 512
"""Tokens a step for a whole sample; a smaller one has smaller batches, so it takes less time."""
RATE = 0.02
GATE_RATE = 4e-3
_TEMPERATURES = (0.25, 1.0, 4.0)  # at the start, in units of the distances' spread
_SMALLEST = 64  # batch
_BIAS = 0.5  # at the start, of each further token that agrees
_FILE = "heads.json"


class MatchHeads(NamedTuple):
    """E fitted heads.

    Attributes:
        temperature: float32 [E], in units of the spread, ascending.
        bias: float32 [E, M], by tokens that agree; 0 for none.
        spread: the unit of distances, see `Neighbours.spread`.
    """

    temperature: NDArray[np.float32]
    bias: NDArray[np.float32]
    spread: float

    def weights(self, found: Neighbours) -> NDArray[np.float32]:
        """[T, K, E], each neighbour's share of each head's distribution; 0 in empty slots."""
        farther = found.farther[:, :, None] / np.float32(self.spread)
        logits = self.bias.T[found.match] - farther / self.temperature
        top = logits.max(axis=1, keepdims=True)
        weights = np.exp(logits - np.where(np.isfinite(top), top, 0))
        return shares(weights, weights.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> None:
        """Writes the heads into an existing folder."""
        fields = self._asdict() | {"temperature": self.temperature.tolist()}
        fields["bias"] = self.bias.tolist()
        (folder / _FILE).write_bytes(orjson.dumps(fields, option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, folder: Path) -> MatchHeads:
        """Reads the heads from a folder."""
        fields = orjson.loads((folder / _FILE).read_bytes())
        temperature, bias = (np.array(fields[n], np.float32) for n in ("temperature", "bias"))
        return cls(temperature, bias, fields["spread"])


def heads_stage(states: Artifact | Stage, index: Artifact | Stage, max_run: int | None) -> Stage:
    """The stage `match_heads` of a datastore.

    Args:
        states, index: the stages of the datastore.
        max_run: as of `StateSearch`.
    """
    parents = {"token_states": states, "token_index": index}
    return Stage("match_heads", VERSION, {"max_run": max_run}, parents)


def build_heads(
    datastore: Datastore, max_run: int | None, workspace: Workspace
) -> Mapping[str, Any]:
    """Fits the heads on a random sample of the datastore's tokens and writes them."""
    size = len(datastore.tokens)
    drawn = np.random.default_rng(0).choice(size, min(size, SAMPLE), replace=False)
    rows = np.sort(drawn)
    found = StateSearch(datastore, max_run).of_rows(rows)
    targets = np.asarray(datastore.tokens[rows])
    counts = np.bincount(datastore.tokens) + 1
    heads = fit_heads(found, targets, np.log(counts / counts.sum())[targets])
    heads.save(workspace.path)
    return {"tokens": len(rows)}


def fit_heads(
    found: Neighbours, targets: NDArray[np.integer], frequency: NDArray[np.floating]
) -> MatchHeads:
    """The heads of the highest likelihood, by Adam with a cosine decay.

    Args:
        found: of T tokens.
        targets: [T], the tokens that followed.
        frequency: [T], log of how often each of them occurs.
    """
    spread = found.spread()
    # An infinite distance has no gradient, not even where it is masked.
    farther = torch.from_numpy(np.where(found.there, found.farther / np.float32(spread), 0))
    match, there = torch.from_numpy(found.match), torch.from_numpy(found.there)
    hit = torch.from_numpy(found.there & (found.tokens == targets[:, None]))
    alone = torch.from_numpy(frequency).float()
    summary = torch.from_numpy(found.summary(spread))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads, gate = _Heads(), Gate(summary.shape[1], HEADS)
    gate.standardise(summary)
    optimiser = torch.optim.Adam(
        [{"params": heads.parameters(), "lr": RATE}, {"params": gate.parameters(), "lr": GATE_RATE}]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    rng = np.random.default_rng(0)
    batch = min(BATCH, max(_SMALLEST, len(targets) * BATCH // SAMPLE))
    for _ in range(STEPS):
        at = torch.from_numpy(rng.integers(0, len(targets), batch))
        logs = heads(farther[at], match[at], hit[at], there[at])
        given = there[at].any(1, keepdim=True).expand(-1, HEADS)
        mixed = torch.cat([alone[at, None], logs], dim=1)
        loss = differentiable_nats(gate(summary[at], given), mixed).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return heads.fitted(spread)


class _Heads(nn.Module):
    """The heads while they are fitted; b grows by a step for each further token that agrees, so a
    length that no neighbour has gets what shorter ones have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(_TEMPERATURES).log())
        self.steps = nn.Parameter(torch.full((HEADS, LONGEST_MATCH), _BIAS))

    def bias(self) -> Tensor:
        """[E, M]."""
        return torch.nn.functional.pad(self.steps.cumsum(1), (1, 0))

    def forward(self, farther: Tensor, match: Tensor, hit: Tensor, there: Tensor) -> Tensor:
        """[T, E], log-probability of the tokens that followed; -1e9 where no neighbour has it.

        Args:
            farther: [T, K], distances in units of the spread.
            match, hit, there: [T, K], tokens that agree, whether the neighbour's token is the one
                that followed, and whether there is a neighbour.
        """
        logits = self.bias().T[match] - farther[:, :, None] / self.log_temperature.exp()
        logits = logits.masked_fill(~there[:, :, None], -1e9)
        logs = logits.log_softmax(1).masked_fill(~hit[:, :, None], -1e9)
        return logs.logsumexp(1).clamp_min(-1e9)

    @torch.no_grad()
    def fitted(self, spread: float) -> MatchHeads:
        """The heads as they are now."""
        order = self.log_temperature.argsort()
        temperature, bias = self.log_temperature.exp()[order], self.bias()[order]
        return MatchHeads(temperature.numpy(), bias.numpy(), spread)
