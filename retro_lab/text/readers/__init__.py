"""Readers: documents from each type of corpus, one module each."""

from .base import Document, Malformed, Reader
from .registry import build_reader, input_digest, read_documents

__all__ = ["Document", "Malformed", "Reader", "build_reader", "input_digest", "read_documents"]
