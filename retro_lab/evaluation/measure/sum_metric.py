"""`Score` as a torchmetrics metric: sums across batches and ranks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from .metrics import Score

IGNORED = -100


class SumMetric(Metric):
    """Sums of nats, tokens and bytes.

    `compute()` returns scalar tensors `loss` (nats/token), `ppl` and `bpb` for `log_dict`;
    `score()` returns the sums as a `Score`.
    """

    full_state_update = False
    higher_is_better = False
    nats: Tensor
    tokens: Tensor
    bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        dtypes = {"nats": torch.float64, "tokens": torch.int64, "bytes": torch.int64}
        for name, dtype in dtypes.items():
            self.add_state(name, torch.zeros((), dtype=dtype), dist_reduce_fx="sum")

    def update(self, nats: Tensor, targets: Tensor, target_bytes: Tensor) -> None:
        """Adds a batch.

        Args:
            nats: [B, N] negative log-likelihood of each target.
            targets: [B, N] token ids, -100 for positions that are not scored.
            target_bytes: [B, N] UTF-8 bytes of each target.
        """
        scored = targets != IGNORED
        self.nats += nats.detach().double().masked_fill(~scored, 0.0).sum()
        self.tokens += scored.sum()
        self.bytes += target_bytes.long().masked_fill(~scored, 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `ppl` and `bpb` of all batches, over all ranks."""
        score = self.score()
        values = {"loss": score.loss, "ppl": score.ppl, "bpb": score.bpb}
        device = self.nats.device
        return {k: torch.tensor(v, dtype=torch.float64, device=device) for k, v in values.items()}

    def score(self) -> Score:
        """The current sums: of this process, or of all ranks while the states are synced."""
        tokens, num_bytes = cast(int, self.tokens.item()), cast(int, self.bytes.item())
        return Score(self.nats.item(), tokens, num_bytes)
