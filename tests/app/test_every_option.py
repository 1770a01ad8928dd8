"""Contract: a model comes out of every option of every group that shapes it, on the meta device."""

from __future__ import annotations

import pytest
import torch

from retro_lab.app.build import build_model, parameter_counts
from retro_lab.config.checks import check
from retro_lab.config.compose import load_config
from retro_lab.config.fingerprints import canonical
from retro_lab.config.paths import options

GROUPS = ("model", "cca", "recipe", "chunking", "neighbours", "tokenizer")
CHOICES = [f"{group}={option}" for group in GROUPS for option in options(group)]


@pytest.mark.parametrize("retriever", ["bm25", "none"])
@pytest.mark.parametrize("choice", CHOICES)
def test_a_model_is_built(choice: str, retriever: str) -> None:
    overrides = [choice, f"retriever={retriever}"]
    if choice == "cca=paper":
        overrides.append("model=base")  # six layers at least
    if choice == "tokenizer=hf":
        overrides.append("tokenizer.path=x")
    config = load_config(overrides)
    check(config)
    with torch.device("meta"):
        model = build_model(canonical(config))
    counts = parameter_counts(model)
    assert counts["total"] > counts["embeddings"] > 0
    assert (counts["retrieval"] > 0) == (retriever == "bm25")
