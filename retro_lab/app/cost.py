"""What training a run cost, from its configuration alone."""

from __future__ import annotations

from retro_lab.config.fingerprints import has_retrieval
from retro_lab.config.schema import Config, Method


def training_flops(config: Config) -> float:
    """Floating-point operations of a run's own training, by the 6 N T rule of thumb.

    Six a parameter and token (Kaplan et al., 2020): T tokens read by the decoder, N all
    parameters but the token tables, those of the encoder times the neighbour tokens a decoder
    token brings with it. A retrofit's baseline is a run of its own and not counted here.
    """
    import torch

    from .build import build_model

    with torch.device("meta"):
        model = build_model(config)
    retrofit = has_retrieval(config) and config.recipe.method is Method.retrofit
    steps = config.recipe.steps if retrofit else config.schedule.steps
    tokens = steps * config.schedule.batch_size * config.chunking.sequence_length
    # Neighbour tokens for each token of text: k neighbours of r tokens for a chunk of m.
    read = config.neighbours.k * (1 + config.chunking.continuation_chunks)
    weighted = 0
    for name, parameter in model.named_parameters():
        if "embedding" not in name:
            weighted += parameter.numel() * (read if name.startswith("encoder") else 1)
    return 6.0 * weighted * tokens
