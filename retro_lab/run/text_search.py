"""The index of a configuration's data, searched by text: for `serve` and the Python API."""

from __future__ import annotations

from retro_lab.config.errors import UserError
from retro_lab.config.schema import HttpRetrieverConfig
from retro_lab.config.serialise import to_plain
from retro_lab.retrieval.embed.embedders import build_embedder
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.retrieval.service.served_index import ServedIndex
from retro_lab.store.stage import digest
from retro_lab.text.tokenizers import Tokenizer

from .data.graph import DataGraph


def text_search(graph: DataGraph, tokenizer: Tokenizer, what: str) -> ServedIndex:
    """The index of the graph's retriever with all that a search by text needs.

    A missing index is built.

    Args:
        tokenizer: of the chunks.
        what: whose data it is, for a message.

    Raises:
        UserError: there is no retriever or an HTTP one, or the data is lost.
    """
    retriever = graph.groups.retriever
    if not retriever.retrieves or isinstance(retriever, HttpRetrieverConfig):
        raise UserError(
            f"{what} has no index of its own: retriever={retriever.name}",
            fix="take another retriever, such as retriever=bm25",
        )
    index, vectors = graph.index(retriever).artifact, retriever.needs_embeddings
    settings = {"index": index.key, "search": to_plain(retriever)}
    return ServedIndex(
        config=retriever,
        key=digest(settings)[:16],
        retriever=load_retriever(retriever, index.path),
        chunks=graph.chunks,
        corpus=graph.corpus,
        tokenizer=tokenizer,
        embedder=build_embedder(graph.groups.embedder) if vectors else None,
        embeddings=graph.searched.embeddings if vectors else None,
    )
