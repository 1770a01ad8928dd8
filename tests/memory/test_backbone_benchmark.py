"""Contract: the benchmark of a memory over a backbone fits its gates on the samples of training
documents, and its figures are sums over the tokens of the scored chunks.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from dense_mixture import EXPERTS, Dense

from retro_lab.memory.memory import FittedGate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def write_samples(folder: Path, first: int) -> None:
    """Two documents a split, whose control reads the evidence of other tokens."""
    for number, split in enumerate(("train", "validation", "test")):
        (folder / split).mkdir(parents=True)
        for document in range(2):
            dense = Dense(first + 10 * number + document)
            rng = np.random.default_rng(document)
            readings = {False: dense.readings(), True: dense.readings(rng.permutation(400))}
            arrays = {
                f"{random}_{name}": value
                for random, each in readings.items()
                for name, value in each._asdict().items()
            }
            chunk = np.arange(400) // 40
            arrays |= {"chunk": 10 * document + chunk, "bytes": np.full(400, 3)}
            np.savez(folder / split / f"{document}.npz", run=4 * chunk, **arrays)
    inputs = [f"input:{n}" for n in range(dense.readings().features.shape[1])]
    names = {"experts": [f"expert:{n}" for n in range(EXPERTS)], "inputs": inputs}
    (folder / "names.json").write_text(json.dumps(names))


def test_figures_are_sums_over_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import memory_backbone as benchmark

    for first, name in enumerate(("a", "b")):
        write_samples(tmp_path / name, 100 * first)
    benchmark.fit_gates(tmp_path, ["a", "b"])
    found = benchmark.score(tmp_path, "a", ["a", "a+b"])
    dense = [Dense(20 + document) for document in range(2)]
    chunk = np.arange(400) // 40
    for key, kept in (("all", chunk >= 0), ("at most 8", chunk <= 2)):
        part, bits = found[key], math.log(2) * 3 * 2 * kept.sum()
        assert (part["documents"], part["chunks"]) == (2, 2 * len(np.unique(chunk[kept])))
        alone = sum(each.readings().nats[kept].sum() for each in dense)
        gate = FittedGate.load(tmp_path / "gates" / "a+b").gate
        mixed = sum(gate.nats(each.readings())[kept].sum() for each in dense)
        said = part["bits per byte"]
        assert said["alone"] == pytest.approx(alone / bits, abs=1e-5)
        assert said["a+b"] == pytest.approx(mixed / bits, abs=1e-5)
        assert said["a+b"] < said["a+b-random"] - 0.05
        assert part["differences"]["a+b - alone"]["difference"] == pytest.approx(
            (mixed - alone) / bits, abs=2e-5
        )
