"""Contract of the recipe study: figures are pooled over seeds and documents, and a gain is only
called one when the baseline and random neighbours are beaten with whole intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation_study import (
    Curve,
    ablation,
    in_study_order,
    markdown_table,
    plot_ablations,
)
from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.statistics import (
    Bootstrap,
    bits_per_byte_intervals,
    pooled_interval,
)
from retro_lab.evaluation.records.chunk_table import ChunkTable

BOOTSTRAP = Bootstrap(samples=400)
DOCUMENTS = 20


def table(seed: int = 0, **gains: float) -> ChunkTable:
    """Two chunks a document; `gains` are bits per byte by which ON beats each condition."""
    rng = np.random.default_rng(1)
    num_bytes = rng.integers(100, 400, 2 * DOCUMENTS)
    noise = np.random.default_rng(seed).normal(0, 0.002, (len(gains), 2 * DOCUMENTS))
    on = 1.5 * num_bytes * math.log(2)
    nats = {"on": on}
    for (name, gain), jitter in zip(gains.items(), noise, strict=True):
        nats[name] = on + (gain + jitter) * num_bytes * math.log(2)
    return ChunkTable(
        document_id=np.array([f"d{i // 2}" for i in range(2 * DOCUMENTS)], object),
        chunk_index=np.tile([0, 1], DOCUMENTS).astype(np.int32),
        tokens=num_bytes // 4,
        bytes=num_bytes,
        with_retrieval=num_bytes // 4,
        nats=nats,
        neighbours=np.empty((2 * DOCUMENTS, 0), np.int64),
    )


def pooled(tables: dict[int, ChunkTable], recipe: str = "x"):
    return ablation(recipe, tables, baseline_tokens=10, tokens=5, bootstrap=BOOTSTRAP)


@pytest.mark.parametrize(
    ("gains", "gate", "gain"),
    [
        ({"plain": 0.1, "random": 0.1, "off": 0.1}, True, True),
        ({"plain": -0.1, "random": 0.1, "off": 0.1}, True, False),  # OFF got worse
        ({"plain": 0.1, "random": 0.0, "off": 0.1}, False, False),  # any neighbour will do
        ({"plain": 0.1, "random": 0.1, "off": -0.1}, False, True),
        ({"plain": 0.1, "off": 0.1}, None, None),
    ],
)
def test_gate_and_gain(gains: dict[str, float], gate: bool | None, gain: bool | None) -> None:
    found = pooled({seed: table(seed, **gains) for seed in (0, 1, 2)})
    assert (found.gate, found.gain) == (gate, gain)


def test_differences_are_means_over_seeds_of_paired_sums() -> None:
    tables = {0: table(0, baseline=0.2), 3: table(0, baseline=0.4)}
    found = pooled(tables)
    difference = found.differences["on", "baseline"]
    per_seed = [t.score("on").bpb - t.score("baseline").bpb for t in tables.values()]
    assert difference.delta_bpb == pytest.approx(np.mean(per_seed))
    assert difference.documents == DOCUMENTS
    assert found.bpb["baseline"] == pytest.approx(1.5 - np.mean(per_seed))
    # Seeds are drawn as well: both alike is as likely as one of each.
    assert difference.low == pytest.approx(min(per_seed), abs=0.01)
    assert difference.high == pytest.approx(max(per_seed), abs=0.01)


def test_one_seed_has_the_interval_over_documents() -> None:
    one = table(0, baseline=0.01)
    nats = {name: np.bincount(one.document, weights=value) for name, value in one.nats.items()}
    num_bytes = np.bincount(one.document, weights=one.bytes)
    pair = ("on", "baseline")
    expected = bits_per_byte_intervals(nats, num_bytes, [pair], BOOTSTRAP)[pair]
    difference = pooled({0: one}).differences[pair]
    assert (difference.low, difference.high) == pytest.approx(expected)


def test_documents_are_drawn_once_for_all_seeds() -> None:
    """What a document does to every seed alike does not average out."""
    nats, num_bytes = np.random.default_rng(0).normal(size=(30, 1)), np.full(30, 10)
    one = pooled_interval(nats, num_bytes, BOOTSTRAP)
    assert pooled_interval(np.repeat(nats, 10, axis=1), num_bytes, BOOTSTRAP) == pytest.approx(one)
    assert pooled_interval(nats[:1], num_bytes[:1], BOOTSTRAP) is None
    assert pooled_interval(nats, np.zeros(30), BOOTSTRAP) is None, "no byte, no bits per byte"


def test_seeds_that_scored_other_text_are_refused() -> None:
    one = table(0, baseline=0.1)
    other = replace(one, tokens=one.tokens + 1)
    with pytest.raises(UserError, match="recipe x scored different text"):
        pooled({0: one, 1: other})


def test_the_table_has_the_largest_gain_first_and_says_what_was_not_measured() -> None:
    small = pooled({0: table(0, plain=0.1, random=0.1, off=0.1)}, "small")
    large = pooled({0: table(0, plain=0.2, random=0.1, off=0.1)}, "large")
    none = pooled({0: table(0, off=0.1)}, "none")
    assert [row.recipe for row in in_study_order([none, small, large])] == [
        "large",
        "small",
        "none",
    ]
    lines = markdown_table([large, none]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| `large` | 0.00M + 0.00M | 1 |" in lines[2]
    assert lines[2].endswith("| yes | yes |")
    assert lines[3].endswith("| - | - |")


def test_a_gain_is_over_the_plain_model_and_not_over_the_baseline() -> None:
    found = pooled({0: table(0, baseline=0.1, plain=0.05)})
    assert found.differences["on", "plain"].delta_bpb == pytest.approx(-0.05, abs=0.01)


def test_the_figure_has_a_panel_a_recipe(tmp_path: Path) -> None:
    tokens = np.array([1, 2, 3]) * 100_000
    on = np.linspace(3, 2, 6).reshape(2, 3)
    curves = {
        name: Curve([0, 1], tokens, {"on": on, "off": on + 0.1}, baseline, "2 seeds")
        for name, baseline in (
            ("retrofit", np.array([2.1, 2.3])),
            ("other", None),
            ("a_name_of_some_length", np.array([2.2, 2.2])),
        )
    }
    sizes = []
    for name in ("one.png", "two.png"):
        plot_ablations(curves, tmp_path / name, title="t", reference="retrofit")
        sizes.append((tmp_path / name).read_bytes())
    assert sizes[0] == sizes[1]
    assert len(sizes[0]) > 20_000


def test_bands_show_the_spread_of_the_difference_from_the_own_baseline() -> None:
    on = np.array([[2.0, 1.9], [3.0, 2.9]])
    curve = Curve([0, 1], np.array([1, 2]), {"on": on}, np.array([2.5, 3.5]), "")
    assert curve.level == 3.0
    assert curve.centred("on") == pytest.approx(np.array([[2.5, 2.4]] * 2))


def test_a_panel_of_one_seed_is_compared_with_that_seed_of_the_reference() -> None:
    on = np.array([[2.0, 1.9], [3.0, 2.9]])
    curve = Curve([4, 7], np.array([1, 2]), {"on": on}, None, "")
    assert curve.of([7]).tolist() == [3.0, 2.9]
    assert curve.of([4, 7, 9]) == pytest.approx(np.array([2.5, 2.4]))
    assert curve.of([5]) == pytest.approx(np.array([2.5, 2.4]))
