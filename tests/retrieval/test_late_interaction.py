"""Contract: late interaction is MaxSim, written out, of whatever encoder a folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import TEXTS, changed_config, hidden, late, save_encoder, unit

from retro_lab.config.errors import UserError
from retro_lab.config.schema import DenseNeuralRetrieverConfig, SentenceTransformerConfig
from retro_lab.retrieval.base import chunk_queries
from retro_lab.retrieval.embed.embedders import Embeddings, build_embedder
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.testing.small_world import small_chunks


def maxsim(query: np.ndarray, text: np.ndarray) -> float:
    total = 0.0
    for token in query:
        total += max(float(token @ other) for other in text)
    return total


PAIRS = [(TEXTS[i], TEXTS[j]) for i, j in [(0, 3), (3, 0), (0, 2), (2, 4), (2, 0), (0, 4), (1, 5)]]


def test_late_interaction_is_the_sum_of_the_best_matches(models: Path) -> None:
    states = {text: unit(hidden(models / "one", text)) for text in TEXTS}
    expected = [maxsim(states[query], states[text]) for query, text in PAIRS]
    scores = late(models / "one")(PAIRS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    few = late(models / "one", batch_size=2, at_once=3)
    np.testing.assert_allclose(few(PAIRS), expected, rtol=1e-5)


def test_a_text_is_read_once_in_however_many_pairs(models: Path) -> None:
    scorer, read = late(models / "one"), []
    scorer.model.register_forward_pre_hook(
        lambda model, given: read.append(len(given[0]["input_ids"]))
    )
    scorer([("w1", "w2"), ("w1", "w3"), ("w2", "w3"), ("w4", "w3")])
    assert read == [3, 2]


def test_a_colbert_model_projects_and_reads_the_whole_query(models: Path, tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    expansion = {"strategy": "fixed", "attend": False, "length": 8}
    dense = Dense(16, 4, bias=False, activation_function=None, module_input_name="token_embeddings")
    tokens = Normalize(module_input_name="token_embeddings")
    encoder = Transformer(str(models / "one"), query_expansion=expansion, document_length=32)
    mask = MultiVectorMask(skiplist_words=["w5"])
    MultiVectorEncoder(modules=[encoder, dense, mask, tokens]).save(str(tmp_path))

    weight = dense.linear.weight.detach().numpy()
    long, short = "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11", "w1 w5 w7"
    asked = {text: unit(hidden(models / "one", text, 32) @ weight.T) for text in (long, short)}
    known = {short: np.delete(asked[short], 2, axis=0), long: np.delete(asked[long], 5, axis=0)}
    pairs = [(long, short), (short, long)]
    expected = [maxsim(asked[query], known[text]) for query, text in pairs]
    np.testing.assert_allclose(late(tmp_path)(pairs), expected, rtol=1e-4)


def test_what_scores_pairs_has_no_late_interaction(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    changed_config(tmp_path, architectures=["BertForSequenceClassification"])
    with pytest.raises(UserError, match=r"retriever\.model=.* scores pairs") as caught:
        late(tmp_path)
    assert "cross_encoder" in str(caught.value.fix)


def test_dense_candidates_are_put_in_the_order_of_late_interaction(models: Path) -> None:
    chunks, rows = small_chunks(), np.array([3, 400, 777])
    ids, vectors = chunks.searched, vectors_of(models)
    config = DenseNeuralRetrieverConfig(
        scorer="late_interaction", model=str(models / "two"), pool=6
    )
    retriever = build_retriever(config)
    retriever.build(ids, chunks.tokens[ids], vectors.of(ids))
    queries = chunk_queries(chunks, vectors, rows, lambda ids: chunks.texts(ids, chunks.corpus))
    plain = build_retriever(config.dense)
    plain.build(ids, chunks.tokens[ids], vectors.of(ids))
    first, found = plain.candidates(queries, 8), retriever.candidates(queries, 8)
    for row, chunk in enumerate(rows):
        [asked] = chunks.texts(np.array([chunk]), chunks.corpus)
        pool = chunks.texts(first.ids[row, :6], chunks.corpus)
        scores = late(models / "two")([(asked, text) for text in pool])
        order = np.lexsort((first.ids[row, :6], -scores))
        expected = [*first.ids[row, :6][order], *first.ids[row, 6:]]
        assert found.ids[row].tolist() == expected
        np.testing.assert_allclose(found.scores[row, :6], scores[order], rtol=1e-5)


def vectors_of(models: Path) -> Embeddings:
    chunks = small_chunks()
    texts = chunks.texts(np.arange(chunks.num_chunks), chunks.corpus)
    encoder = build_embedder(SentenceTransformerConfig(model=str(models / "one")))
    vectors = encoder.embed(texts).astype(np.float16)
    return Embeddings(vectors, np.arange(len(vectors), dtype=np.int32))
