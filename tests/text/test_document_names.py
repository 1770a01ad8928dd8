"""Contract: a name that a reader made up says where a document lay, never which document it is; two
corpora share a document by its text, or by an id that both brought along.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from text_builders import published_corpus, write_jsonl

from retro_lab.config.schema import (
    CorpusConfig,
    JsonlCorpusConfig,
    ParquetCorpusConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)
from retro_lab.text.corpus import Corpus
from retro_lab.text.database_documents import identities, taken_part
from retro_lab.text.document_names import given_ids

OWN = ["the first text", "the second text", "the third text"]
OTHER = ["a text of its own", "the third text", "another text"]  # one copy, in another place


def written(kind: str, texts: Sequence[str], folder: Path, name: str = "train") -> CorpusConfig:
    """A corpus without ids, whose made-up names depend on `name` alone."""
    folder.mkdir()
    match kind:
        case "jsonl":
            path = write_jsonl(folder / f"{name}.jsonl", [{"text": text} for text in texts])
            return JsonlCorpusConfig(path=str(path))
        case "parquet":
            path = folder / f"{name}.parquet"
            pyarrow.parquet.write_table(pa.table({"text": list(texts)}), path)
            return ParquetCorpusConfig(path=str(path))
        case "wikitext":
            articles = [f" = Page = \n\n {text}\n\n" for text in texts]
            (folder / f"{name}.raw").write_text("".join(articles))
            return WikitextCorpusConfig(path=str(folder / f"{name}.raw"))
    for number, text in enumerate(texts):
        (folder / f"{name}{number}.txt").write_text(text)
    return TextCorpusConfig(path=str(folder))


def same(own: Corpus, other: Corpus) -> list[int]:
    """For each document of both, in order, the first that it is."""
    corpora = [own, other]
    parts = [taken_part("", n, corpus, 1.0) for n, corpus in enumerate(corpora)]
    return identities(parts, corpora).tolist()


@pytest.mark.parametrize("name", ["train", "other"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "text", "wikitext"])
def test_documents_without_ids_are_the_same_by_their_text_alone(
    kind: str, name: str, tmp_path: Path
) -> None:
    """Whatever the files are called: the third text is one document, the rest are five."""
    own = published_corpus(written(kind, OWN, tmp_path / "a"), tmp_path)
    other = published_corpus(written(kind, OTHER, tmp_path / "b", name), tmp_path)
    assert (set(own.ids) == set(other.ids)) == (name == "train")
    assert not given_ids(own).any()
    assert not given_ids(other).any()
    assert same(own, other) == [0, 1, 2, 3, 2, 5]


def test_documents_of_one_given_id_are_versions_of_one_document(tmp_path: Path) -> None:
    corpora = []
    for folder, texts in (("a", OWN), ("b", OTHER)):
        rows = [{"id": f"page {n}", "text": text} for n, text in enumerate(texts)]
        rows[0].pop("id")
        path = write_jsonl(tmp_path / folder / "train.jsonl", rows)
        corpora.append(published_corpus(JsonlCorpusConfig(path=str(path)), tmp_path))
    assert corpora[0].ids == ["train.jsonl:1", "page 1", "page 2"]
    assert [given_ids(corpus).tolist() for corpus in corpora] == [[False, True, True]] * 2
    #      the ids link page 1 and page 2 with their namesakes, the text page 2 with page 1
    assert same(*corpora) == [0, 1, 1, 3, 1, 1]


def test_an_id_that_only_looks_like_a_place_is_an_id(tmp_path: Path) -> None:
    names = ["other.jsonl:1", "train.jsonl:x", ":1", "train.jsonl", "http://a.b:80"]
    path = write_jsonl(tmp_path / "train.jsonl", [{"id": n, "text": f"of {n}"} for n in names])
    corpus = published_corpus(JsonlCorpusConfig(path=str(path)), tmp_path)
    assert given_ids(corpus).all()
