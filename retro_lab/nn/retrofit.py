"""RETROfit (RETRO, section 4.2): retrieval parameters beside those of the plain model."""

from __future__ import annotations

from torch import Tensor, nn

_PREFIXES = ("encoder.", "encoder_embedding.", "pointer.")


class Retrofitted(nn.Module):
    """A decoder that can load and freeze a plain language model's weights."""

    def retrieval_parameters(self) -> set[str]:
        """Names of the parameters that the plain language model lacks."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.startswith(_PREFIXES) or ".cca." in name or ".cca_norm." in name
        }

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Loads a plain language model's weights; the retrieval parts keep theirs.

        Raises:
            ValueError: the weights belong to another decoder; names the differing keys.
        """
        result = self.load_state_dict(state, strict=False)
        missing = set(result.missing_keys) - self.retrieval_parameters()
        if missing or result.unexpected_keys:
            raise ValueError(
                f"not this decoder's weights: missing {sorted(missing)}, "
                f"unexpected {sorted(result.unexpected_keys)}"
            )

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters of the plain language model."""
        extra = self.retrieval_parameters()
        return [value for name, value in self.named_parameters() if name not in extra]

    def freeze_backbone(self) -> None:
        """Leaves only the retrieval parts trainable (RETROfit; RETRO, section 4.2)."""
        trainable = self.retrieval_parameters()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trainable)
