"""Documents from every kind of corpus, one module a kind."""

from .base import Document, Malformed, Reader
from .registry import build_reader, input_digest, read_documents

__all__ = ["Document", "Malformed", "Reader", "build_reader", "input_digest", "read_documents"]
