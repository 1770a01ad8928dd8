"""Contract: the options named after the paper's models have the paper's parameters, embeddings not
counted: without retrieval by the published formula, with it to the million that is published.
"""

from __future__ import annotations

import pytest
import torch
from composed import config_of

from retro_lab.nn import Retro
from retro_lab.run.model import build_model

# option, published millions with retrieval (RETRO, section 2.5 and Table 2)
SIZES = [("retro_172m", 172), ("retro_425m", 425), ("retro_1_5b", 1451), ("retro_7_5b", 7532)]
# millions by L * (5 * d * h * d_h + 2 * d * d_ff)
WITHOUT = {"retro_172m": 132.1, "retro_425m": 368.1, "retro_1_5b": 1308.6, "retro_7_5b": 6979.3}


def built(option: str, *overrides: str) -> Retro:
    config = config_of(f"model={option}", "cca=paper", "recipe=scratch", *overrides)
    with torch.device("meta"):
        return build_model(config)


def matrices(model: Retro) -> dict[str, int]:
    """Entries of every matrix but the embeddings."""
    return {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and "embedding" not in name
    }


@pytest.mark.parametrize("option", WITHOUT)
def test_without_retrieval_the_published_formula_holds(option: str) -> None:
    """The fifth matrix a layer is the Transformer-XL projection; nothing needs correcting."""
    total = sum(matrices(built(option, "retriever=none")).values())
    assert total / 1e6 == pytest.approx(WITHOUT[option], abs=0.06)


def test_other_positions_lack_the_fifth_matrix() -> None:
    config = built("retro_172m", "retriever=none").config
    fifth = config.num_layers * config.d_model * config.num_heads * config.head_dim
    for positions in ("rotary", "bucket_log", "none"):
        model = built("retro_172m", "retriever=none", f"model.positions={positions}")
        tables = sum(n for name, n in matrices(model).items() if name.endswith("positions.bias"))
        total = sum(matrices(model).values()) - tables
        assert (total + fifth) / 1e6 == pytest.approx(132.1, abs=0.06)


@pytest.mark.parametrize(("option", "millions"), SIZES)
def test_with_retrieval_it_is_the_published_size(option: str, millions: int) -> None:
    """All published sizes follow from relative positions in all attention, an encoder of 16 heads
    of 64 and CCA in every third layer from 6; from 9, two of them would miss by 16M and 58M.
    """
    model = built(option)
    config = model.config
    assert round(sum(matrices(model).values()) / 1e6) == millions
    # Where the added parameters are: D decoder width, E encoder width, widths of all heads.
    d, e = config.d_model, config.encoder_d_model
    heads = config.num_heads * config.head_dim
    encoder_heads = config.encoder_heads[0] * config.encoder_heads[1]
    encoder = config.encoder_num_layers * (5 * e * encoder_heads + 8 * e * e)
    condition = 3 * e * encoder_heads + 2 * d * encoder_heads  # q, out, positions; k, v
    cca = len(config.cca_layers) * (3 * d * heads + 2 * e * heads)
    extra = model.retrieval_parameters()
    added = sum(n for name, n in matrices(model).items() if name in extra)
    assert added == encoder + condition + cca
