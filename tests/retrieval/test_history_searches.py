"""Contract: topics find chunks of the same subject without a shared word, edit distance finds the
chunk with the fewest changes. Both score as a few lines of arithmetic do, and store what the
planner says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EditDistanceRetrieverConfig, LdaRetrieverConfig, RetrieverConfig
from retro_lab.planner.plan import Database, planned_files
from retro_lab.retrieval.base import Queries, Retriever, text_tokens
from retro_lab.retrieval.index_stage import index_stage
from retro_lab.retrieval.search.edit_distance import edit_similarity
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.store.stage import Stage
from retro_lab.testing.small_world import SmallChunks, make_queries, small_chunks

SUBJECTS, WORDS = 4, 10  # words a subject; `make_queries` has 40
TOPICS = LdaRetrieverConfig(topics=SUBJECTS, passes=8, batch_size=32, seed=1)


def built(config: RetrieverConfig, tokens: np.ndarray) -> Retriever:
    retriever = build_retriever(config)
    retriever.build(np.arange(len(tokens)), tokens, None)
    return retriever


def of_subjects(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [n, 8], each chunk of half the words of one subject, and the subject of each [n]."""
    rng = np.random.default_rng(seed)
    subject = np.arange(count) % SUBJECTS
    words = np.stack([rng.permutation(WORDS)[:8] for _ in range(count)])
    return (subject[:, None] * WORDS + words).astype(np.int32), subject


def test_topics_find_the_subject_without_a_shared_word() -> None:
    tokens, subject = of_subjects(240)
    asked = np.repeat(np.arange(SUBJECTS) * WORDS, 6).reshape(SUBJECTS, 6).astype(np.int32)
    found = built(TOPICS, tokens).candidates(make_queries(asked), 240 // SUBJECTS)
    assert (subject[found.ids] == np.arange(SUBJECTS)[:, None]).all()
    shares = (tokens[found.ids] == asked[:, :1, None]).any(axis=2)
    assert 0.5 < shares.mean() < 0.9  # the others share no word with the query


def test_topics_are_compared_by_the_bhattacharyya_coefficient() -> None:
    from sklearn.decomposition import LatentDirichletAllocation

    tokens, _ = of_subjects(60)
    counts = np.stack([np.bincount(row, minlength=SUBJECTS * WORDS) for row in tokens])
    model = LatentDirichletAllocation(
        SUBJECTS, max_iter=8, batch_size=32, learning_method="online", random_state=1
    )
    mixtures = model.fit(counts.astype(np.float32)).transform(counts.astype(np.float32))
    alike = np.sqrt(mixtures[:, None] * mixtures[None]).sum(axis=2)
    found = built(TOPICS, tokens).candidates(make_queries(tokens), 60)
    np.testing.assert_allclose(found.scores, np.take_along_axis(alike, found.ids, 1), atol=1e-4)


def test_tokens_that_the_database_lacks_are_no_evidence() -> None:
    tokens, _ = of_subjects(60)
    retriever = built(TOPICS, tokens)
    strange = np.concatenate([tokens[:3], np.full((3, 2), 999)], axis=1)
    with_strangers, without = (
        retriever.candidates(Queries(t, None, np.arange(3), np.arange(3)), 9)
        for t in (strange, tokens[:3])
    )
    np.testing.assert_array_equal(with_strangers.ids, without.ids)


@pytest.mark.parametrize("setting", ["topics=3", "passes=2", "batch_size=7", "seed=1"])
def test_every_setting_of_the_topics_makes_another_index(setting: str) -> None:
    name, value = setting.split("=")
    other, chunks = LdaRetrieverConfig(**{name: int(value)}), Stage("chunks", 1, {}, {})
    keys = [index_stage(config, chunks, None).key for config in (other, LdaRetrieverConfig())]
    assert keys[0] != keys[1]


def test_topics_of_no_text_are_the_users_error() -> None:
    with pytest.raises(UserError, match=r"retriever=lda.*no text"):
        built(LdaRetrieverConfig(), np.full((2, 4), -1, np.int32))


def edits(left: list[int], right: list[int]) -> int:
    """Levenshtein's distance by the textbook's table."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def test_edits_are_counted_token_by_token() -> None:
    one = np.array([[-1, 5, 6, 7, 8, 9, 55296]], np.int32)  # 55296: half a surrogate pair
    other = np.array([[5, 6, 7, 8, 9, 55296, -1]], np.int32)
    assert edit_similarity(one, other) == 1  # boundaries and padding don't count
    moved = np.array([[4, 5, 6, 7, 8, 9, 55296]], np.int32)
    np.testing.assert_allclose(edit_similarity(one, moved), 1 - 1 / 7)
    assert edit_similarity(one, np.array([[1, 2, 3, -1, -1, -1, -1]], np.int32)) == 0


def test_candidates_of_bm25_are_put_in_the_order_of_their_edits() -> None:
    chunks = small_chunks()
    tokens = text_tokens(chunks.tokens, chunks.pad_id, chunks.boundary_id)
    config = EditDistanceRetrieverConfig(pool=20)
    queries = make_queries(chunks.tokens[3:200:19])
    found = built(config, tokens).candidates(queries, 30)
    pool = built(config.bm25, tokens).candidates(queries, 30).ids
    for row, query in enumerate(queries.tokens):
        texts = {c: [t for t in tokens[c].tolist() if t >= 0] for c in pool[row].tolist()}
        text = [t for t in query.tolist() if t >= 0]
        score = {c: 1 - edits(text, t) / max(len(text), len(t)) for c, t in texts.items()}
        head = sorted(pool[row, :20].tolist(), key=lambda c: (-score[c], c))
        assert found.ids[row].tolist() == [*head, *pool[row, 20:].tolist()]
        np.testing.assert_allclose(found.scores[row, :20], [score[c] for c in head], atol=1e-6)
    assert (found.ids[:, :20] != pool[:, :20]).any()


@pytest.mark.parametrize("config", [LdaRetrieverConfig(topics=8), EditDistanceRetrieverConfig()])
def test_the_planner_knows_what_is_stored(config: RetrieverConfig, tmp_path: Path) -> None:
    chunks: SmallChunks = small_chunks()
    ids = chunks.searched
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    built(config, tokens).save(tmp_path)
    words = np.mean([len(np.unique(row[row >= 0])) for row in tokens]) / chunks.chunk_size
    planned = Database(chunks.num_chunks, len(ids), 50, 1, chunks.chunk_size, 40, float(words))
    files = {
        file.name: file.bytes
        for file in planned_files(planned, config, 0, 4)
        if file.stage == "index"
    }
    sizes = {str(p.relative_to(tmp_path)): p.stat().st_size for p in tmp_path.rglob("*.*")}
    del sizes["bm25/shape.npy" if "bm25/shape.npy" in sizes else "topics.npy"]
    assert sizes == {name: pytest.approx(files[name], rel=0.02) for name in sizes}
