"""Contract: the decoder learns what kNN-LM's neighbours in other documents say of the training
text, no test text is read, and share and rate are chosen by validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rival_text import VOCABULARY, small_model, small_store, subset_of
from test_knn_lm import CHUNKS, all_keys, open_datastore

from retro_lab.config.schema import AdamWConfig
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro
from retro_lab.rivals import memory_decoder
from retro_lab.rivals.imitation import (
    Lesson,
    Targets,
    build_targets,
    imitate,
    likeliest,
    sampled_windows,
    shortened,
)
from retro_lab.rivals.knn_lm import knn_distributions
from retro_lab.rivals.memory_decoder import Trained
from retro_lab.rivals.states import token_nats
from retro_lab.store import ArtifactStore, Stage

TEACHER = {"neighbours": 5, "temperature": 20.0}


def training() -> Subset:
    store = small_store()
    store.tokens[store.chunks_of("test")] = 60_000  # no embedding has this token
    return subset_of(store, "train")


def all_windows() -> np.ndarray:
    return training().windows()[1]


def targets_in(folder: Path) -> Targets:
    datastore, data = open_datastore(folder), training().windows()[0]
    stage = Stage("knn_targets", 1, {}, {"chunks": CHUNKS})
    built = ArtifactStore(folder).build(
        stage,
        lambda w: build_targets(small_model(), datastore, data, all_windows(), TEACHER, w),
    )
    return Targets.of(built)


def test_targets_are_of_neighbours_in_other_documents(tmp_path: Path) -> None:
    targets, datastore = targets_in(tmp_path), open_datastore(tmp_path)
    document = np.array(datastore.document)
    found = datastore.search(all_keys(datastore), document, TEACHER["neighbours"])
    expected = knn_distributions(*found, TEACHER["temperature"], VOCABULARY)
    dense = np.zeros_like(expected)
    np.put_along_axis(dense, np.asarray(targets.tokens), np.asarray(targets.shares), 1)
    assert np.allclose(dense, expected, atol=1e-3)
    assert targets.first[-1] == len(document)


def test_the_likeliest_are_kept_and_sum_to_one() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(60), 3)
    tokens, kept = likeliest(shares)
    assert tokens.shape == (3, 32)
    assert np.allclose(kept.sum(1), 1)
    left_out = shares.copy()
    np.put_along_axis(left_out, tokens, 0.0, 1)
    least = np.take_along_axis(shares, tokens, 1).min(1)
    assert (left_out.max(1) <= least).all()


def cross_entropy(decoder: Retro, targets: Targets) -> float:
    """With the targets' distributions, over the training text."""
    data, windows = training().windows()
    batch = data.__getitems__(windows.tolist())
    with torch.inference_mode():
        logits = decoder(batch["input_ids"], None, batch["document_ids"])
    logs = logits[batch["targets"] != -100].log_softmax(-1).numpy()
    told = np.take_along_axis(logs, targets.tokens.astype(np.int64), 1)
    return float(-(targets.shares * told).sum(1).mean())


def taught(targets: Targets, imitation: float) -> Retro:
    data, windows = training().windows()
    lesson = Lesson(imitation, 15, AdamWConfig(), 3e-3, 1)
    return imitate(shortened(small_model(), 1), targets, data, windows, lesson)


def test_neighbours_are_imitated_and_text_alone_tells_less_of_them(tmp_path: Path) -> None:
    targets = targets_in(tmp_path)
    before = cross_entropy(shortened(small_model(), 1).eval(), targets)
    both = [taught(targets, share) for share in (1.0, 0.0)]
    after, text = (cross_entropy(decoder, targets) for decoder in both)
    assert after < 0.9 * before
    assert after < 0.95 * text
    nats = [token_nats(decoder, training(), 3).sum() for decoder in both]
    assert nats[1] < nats[0], "without neighbours the text alone is learned"


def test_shuffled_targets_are_the_same_ones_elsewhere(tmp_path: Path) -> None:
    targets = targets_in(tmp_path)
    shuffled = targets.shuffled(0)
    own, other = (np.sort(each.shares, axis=None) for each in (targets, shuffled))
    assert np.array_equal(own, other)
    assert (targets.tokens != shuffled.tokens).any(1).mean() > 0.5
    row = np.flatnonzero((targets.shares == shuffled.shares[0]).all(1))
    assert (targets.tokens[row] == shuffled.tokens[0]).all(1).any(), "ids move with their shares"


def test_the_decoder_begins_as_the_first_layers(tmp_path: Path) -> None:
    model = small_model()
    whole, short = shortened(model, 9), shortened(model, 1)
    ids = torch.arange(12)[None]
    assert torch.allclose(whole(ids), model(ids))
    assert short.config.num_layers == 1
    assert not torch.allclose(short(ids), model(ids))
    short.embedding.weight.data.zero_()
    assert model.embedding.weight.abs().sum() > 0, "it is a copy"


def test_windows_are_drawn_by_the_seed_up_to_the_tokens() -> None:
    subset = training()
    drawn = sampled_windows(subset, 3 * subset.stride, 1)
    assert len(drawn) == 3
    assert np.array_equal(drawn, sampled_windows(subset, 3 * subset.stride, 1))
    assert set(sampled_windows(subset, 10**9, 0).tolist()) == set(all_windows().tolist())


def test_tuning_takes_the_best_of_both_grids() -> None:
    subset = subset_of(small_store(), "validation")
    own = token_nats(small_model(), subset, 3)
    trained = [
        Trained(factor, small_model(), own + shift) for factor, shift in ((0.1, 2.0), (0.5, -1.0))
    ]
    tuning = memory_decoder.tune(subset, own, trained, [0.0, 0.3, 0.9])
    assert tuning.chosen == {"rate_factor": 0.5, "weight": 0.9}
    assert len(tuning.trials) == 6
    alone = memory_decoder.tune(subset, own, trained[:1], [0.0, 0.3])
    assert alone.chosen["weight"] == 0.0


@pytest.mark.parametrize("variant", memory_decoder.VARIANTS[1:])
def test_each_control_takes_one_thing_away(variant: memory_decoder.Variant) -> None:
    assert variant.imitates is variant.shuffled
