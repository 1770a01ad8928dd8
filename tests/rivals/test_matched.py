"""Contract: the plain models of equal size have RETRO's parameters, or its FLOPs, to within one
unit of their inner width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retro_lab.config.schema import ModelConfig
from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.flops import count_flops
from retro_lab.nn.ngram_table import NgramTable
from retro_lab.rivals.matched import matched, matched_table, parameters

RETRO = RetroConfig(
    vocab_size=100,
    d_model=32,
    num_layers=2,
    num_heads=2,
    head_dim=16,
    d_ff=128,
    cca_layers=(1, 2),
    encoder_d_model=32,
    encoder_num_layers=2,
    encoder_cca_layers=(1,),
    chunk_size=16,
    neighbour_length=32,
    pad_id=99,
    smeared_keys=True,
    pointer=True,
)
WINDOW, K = 64, 2


def flops(config: RetroConfig) -> int:
    return count_flops(config, 1, WINDOW, K).forward // WINDOW


def test_flops_of_a_plain_model_by_hand() -> None:
    """Two for every multiplication and addition: q, k, v, out; feed-forward; attention; logits."""
    layer = 2 * 4 * 32 * 32 + 2 * 2 * 32 * 128 + 2 * 2 * WINDOW * 32
    assert flops(RETRO.baseline) == 2 * layer + 2 * 32 * 100


def test_flops_grow_with_neighbours_and_what_reads_them() -> None:
    assert flops(RETRO) > flops(RETRO.baseline)
    assert count_flops(RETRO, 1, WINDOW, 4).forward // WINDOW > flops(RETRO)
    assert flops(replace(RETRO, cca_layers=(1,))) < flops(RETRO)


@pytest.mark.parametrize("cost", [parameters, flops])
@pytest.mark.parametrize("ff", ["gelu", "swiglu"])
def test_the_match_is_exact_to_one_unit(cost, ff: str) -> None:
    retro = replace(RETRO, ff=ff)
    match = matched(retro, cost)
    built = replace(retro.baseline, num_layers=match.num_layers, d_ff=match.d_ff)
    assert match.target == cost(retro)
    assert match.cost == cost(built)
    assert abs(match.cost - match.target) <= match.unit / 2
    assert match.num_layers > 2
    assert 128 <= match.d_ff < 2 * 128 + 32 * 4
    if cost is parameters:
        assert match.cost == sum(p.numel() for p in Retro(built).parameters())


def test_the_arithmetic_adds_up() -> None:
    match = matched(RETRO, parameters)
    blocks, units = match.num_layers - RETRO.num_layers, match.d_ff - RETRO.d_ff
    assert match.original + blocks * match.layer + units * match.unit == match.cost


def test_the_table_has_the_parameters_of_retrieval_to_half_a_row() -> None:
    match = matched_table(RETRO)
    table = match.resized(ModelConfig()).ngram_table
    built = replace(
        RETRO.baseline,
        ngram_rows=table.rows,
        ngram_width=table.width,
        ngram_longest=table.longest,
        ngram_heads=table.heads,
        ngram_layer=table.layer,
    )
    assert match.cost == sum(p.numel() for p in Retro(built, NgramTable).parameters())
    assert match.target == parameters(RETRO)
    assert match.original == parameters(RETRO.baseline)
    assert abs(match.cost - match.target) <= match.unit / 2
    assert match.unit == (table.longest - 1) * table.heads * table.width
    assert matched_table(replace(RETRO, num_layers=1, cca_layers=(1,))).table.layer == 1
