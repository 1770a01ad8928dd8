"""The Python API, documented in docs/python.md; `import retro_lab as rl` has the same names.

database = rl.Database.from_texts(["...", "..."])
hits = database.search("...", k=3)

run = rl.train("corpus=jsonl", "corpus.path=my.jsonl")
run.score("...").bpb
"""

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.records.results import Results
from retro_lab.memory.logits_processor import MemoryLogitsProcessor
from retro_lab.retrieval.folder import RunRetriever
from retro_lab.retrieval.service.served_index import Hit
from retro_lab.run.attached_memory import AttachedMemory

from .database import Database
from .run import Generated, Run, load
from .training import train

__all__ = [
    "AttachedMemory",
    "Database",
    "Generated",
    "Hit",
    "MemoryLogitsProcessor",
    "Results",
    "Run",
    "RunRetriever",
    "Score",
    "UserError",
    "load",
    "train",
]
