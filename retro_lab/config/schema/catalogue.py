"""Names under which Hydra knows each schema: `schema/<group>/<name>`."""

from __future__ import annotations

from .benchmarks import HarnessConfig, QaConfig
from .cca import CcaConfig
from .chunking import ChunkingConfig
from .corpus import (
    HfCorpusConfig,
    JsonlCorpusConfig,
    NorlundCorpusConfig,
    ParquetCorpusConfig,
    PythonCorpusConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)
from .database import (
    CorporaDatabaseConfig,
    CorpusDatabaseConfig,
    DatabaseConfig,
    PlantedDatabaseConfig,
)
from .embedder import DualEncoderConfig, HashingEmbedderConfig, SentenceTransformerConfig
from .evaluation import EvalConfig
from .logger import CsvConfig, TensorboardConfig, WandbConfig
from .model import ModelConfig
from .neighbours import NeighboursConfig
from .optim import AdamWConfig, MuonConfig
from .plain import PlainConfig
from .recipe import RecipeConfig
from .retriever import (
    Bm25RetrieverConfig,
    DenseBm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    FaissRetrieverConfig,
    HttpRetrieverConfig,
    HybridRetrieverConfig,
    NoneRetrieverConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    StoredRetrieverConfig,
    TfidfRetrieverConfig,
)
from .root import Config, EvaluateConfig
from .schedule import ScheduleConfig
from .tokenizer import BpeTokenizerConfig, ByteTokenizerConfig, HfTokenizerConfig
from .trainer import TrainerConfig

SCHEMAS: dict[str, type] = {
    "train": Config,
    "evaluate": EvaluateConfig,
    "model/base": ModelConfig,
    "cca/base": CcaConfig,
    "recipe/base": RecipeConfig,
    "plain/base": PlainConfig,
    "chunking/base": ChunkingConfig,
    "neighbours/base": NeighboursConfig,
    "retriever/none": NoneRetrieverConfig,
    "retriever/faiss": FaissRetrieverConfig,
    "retriever/bm25": Bm25RetrieverConfig,
    "retriever/random": RandomRetrieverConfig,
    "retriever/tfidf": TfidfRetrieverConfig,
    "retriever/hybrid": HybridRetrieverConfig,
    "retriever/dense_bm25_rerank": DenseBm25RetrieverConfig,
    "retriever/dense_neural_rerank": DenseNeuralRetrieverConfig,
    "retriever/oracle": OracleRetrieverConfig,
    "retriever/http": HttpRetrieverConfig,
    "retriever/stored": StoredRetrieverConfig,
    "embedder/sentence_transformer": SentenceTransformerConfig,
    "embedder/dual_encoder": DualEncoderConfig,
    "embedder/hashing": HashingEmbedderConfig,
    "tokenizer/bpe": BpeTokenizerConfig,
    "tokenizer/byte": ByteTokenizerConfig,
    "tokenizer/hf": HfTokenizerConfig,
    "corpus/python": PythonCorpusConfig,
    "corpus/jsonl": JsonlCorpusConfig,
    "corpus/text": TextCorpusConfig,
    "corpus/parquet": ParquetCorpusConfig,
    "corpus/norlund": NorlundCorpusConfig,
    "corpus/hf": HfCorpusConfig,
    "corpus/wikitext": WikitextCorpusConfig,
    "database/base": DatabaseConfig,
    "database/corpus": CorpusDatabaseConfig,
    "database/corpora": CorporaDatabaseConfig,
    "database/planted": PlantedDatabaseConfig,
    "optim/adamw": AdamWConfig,
    "optim/muon": MuonConfig,
    "schedule/base": ScheduleConfig,
    "trainer/base": TrainerConfig,
    "logger/wandb": WandbConfig,
    "logger/csv": CsvConfig,
    "logger/tensorboard": TensorboardConfig,
    "eval/base": EvalConfig,
    "eval/harness": HarnessConfig,
    "eval/qa": QaConfig,
}
