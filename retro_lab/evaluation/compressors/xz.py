"""xz as a language model: the bits that a document adds to the compressed training text.

Bits are the size of the raw LZMA2 stream of training text and document, minus the size for the
training text alone: headers do not count, and each document is scored independently. The
dictionary holds 64 MiB at the highest preset, so only the last 64 MiB of the training text are
read. xz mostly copies whole runs: it is a weak model of new text and a strong one of leaked text.
"""

from __future__ import annotations

import lzma
import math
import os
import struct
import time
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retro_lab.store import track
from retro_lab.text.corpus import Corpus

from .outcome import Outcome, Tuning
from .subset import Subset

WINDOW = 64 * 2**20
_PIECE = 2**20


def document_bits(
    training: bytes, documents: Sequence[bytes], *, window: int = WINDOW
) -> NDArray[np.int64]:
    """[D] bits that each document adds to the compressed training text.

    An encoder cannot be copied, so a child process is forked for each document: the training text
    is compressed once.

    Args:
        window: bytes at the end of the training text that are read.
    """
    longest = max((len(document) for document in documents), default=0)
    size = min(max(len(training) + longest, 4096), window)
    filters = [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": size,
        }
    ]
    encoder = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    training = training[-window:]
    with track(len(training), "xz reads training text", "bytes") as advance:
        for start in range(0, len(training), _PIECE):
            piece = training[start : start + _PIECE]
            encoder.compress(piece)
            advance(len(piece))
    alone = _in_child(encoder, b"")
    sizes = []
    with track(len(documents), "xz", "documents") as advance:
        for document in documents:
            sizes.append(8 * (_in_child(encoder, document) - alone))
            advance(1)
    return np.array(sizes, np.int64)


def _in_child(encoder: lzma.LZMACompressor, data: bytes) -> int:
    """Bytes that the encoder writes for `data` and the end of the stream, in a forked process."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The warning is about locks of other threads; the child only runs the encoder.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            size = len(encoder.compress(data)) + len(encoder.flush())
            os.write(writer, struct.pack("q", size))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise RuntimeError("xz failed in a child process, perhaps for want of memory")
    return struct.unpack("q", answer)[0]


def score(corpus: Corpus, training: Subset, subset: Subset) -> Outcome:
    """Nats of each document of `subset`, without tuning and without figures by chunk."""
    start = time.perf_counter()
    text = b"".join(corpus.raw(document) for document in training.documents.tolist())
    documents = [corpus.raw(document) for document in subset.documents.tolist()]
    bits = document_bits(text, documents)
    return Outcome(
        bits.astype(np.float64) * math.log(2),
        None,
        Tuning(),
        round(time.perf_counter() - start, 1),
        facts={"training_bytes": len(text), "window_bytes": WINDOW},
    )
