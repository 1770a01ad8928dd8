"""Contract: each ablation is one setting, which reaches the model and leaves the baseline alone."""

from __future__ import annotations

from typing import Any

import pytest
from composed import config_of

from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.rules import check
from retro_lab.nn import RetroConfig
from retro_lab.run.model import retro_config

# override, field of the model's own configuration, value; whether the baseline has it too
SETTINGS = [
    ("model.positions=relative", "positions", "relative", True),
    ("model.positions=bucket_linear", "positions", "bucket_linear", True),
    ("model.positions=bucket_log", "positions", "bucket_log", True),
    ("model.positions=none", "positions", "none", True),
    ("model.ff=swiglu", "ff", "swiglu", True),
    ("model.dropout=0.1", "dropout", 0.1, True),
    ("model.cca_positions=false", "cca_positions", False, False),
    ("model.value=neighbour", "value", "neighbour", False),
    ("model.value=continuation", "value", "continuation", False),
    ("model.gated_cca=true", "gated_cca", True, False),
    ("model.neighbour_noise=0.196", "neighbour_noise", 0.196, False),
    ("model.share_embeddings=true", "share_embeddings", True, False),
    ("model.encoder.cca_layers=[]", "encoder_cca_layers", (), False),
    ("model.encoder.num_layers=6", "encoder_num_layers", 6, False),
    ("model.encoder.num_heads=2", "encoder_heads", (2, 32), False),
    ("cca.placement=all", "cca_layers", (1, 2, 3, 4), False),
    ("chunking.continuation_chunks=2", "neighbour_length", 192, False),
]


def built(*overrides: str, baseline: bool = False) -> RetroConfig:
    config = config_of(*overrides)
    check(config)
    return retro_config(baseline_of(config) if baseline else config, 100, 99)


@pytest.mark.parametrize(("override", "name", "value", "shared"), SETTINGS)
def test_an_ablation_is_one_override(override: str, name: str, value: Any, shared: bool) -> None:
    assert getattr(built(), name) != value
    assert getattr(built(override), name) == value
    same = built(override, baseline=True) == built(baseline=True)
    assert same != shared


def test_a_retrofit_has_the_decoder_of_its_baseline() -> None:
    for override, *_ in SETTINGS:
        assert built(override).baseline == built(override, baseline=True), override
