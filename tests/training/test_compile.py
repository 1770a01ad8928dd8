"""Contract: `trainer.compile` trains the same model; it only changes who does the arithmetic."""

from __future__ import annotations

import pytest
import torch
from small_run import small_config, small_fit, small_model


@pytest.mark.slow  # compiles for a minute or two, on a busy machine for many
@pytest.mark.timeout(1800)
def test_a_compiled_run_is_the_eager_run(tmp_path) -> None:
    eager, _ = small_fit(tmp_path / "eager", small_config(), model=small_model(dropout=0.0))
    compiled, result = small_fit(
        tmp_path / "compiled", small_config(compile=True), model=small_model(dropout=0.0)
    )
    assert result.steps == 14
    for (name, one), two in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-2, atol=1e-3, msg=name)
