"""Typed schemas, one file a configuration group; nothing here imports torch."""

from .benchmarks import BenchmarkConfig, HarnessConfig, QaConfig
from .cca import CcaConfig, Placement, resolve_layers
from .chunking import ChunkingConfig
from .corpus import (
    CorpusConfig,
    FileCorpusConfig,
    HfCorpusConfig,
    JsonlCorpusConfig,
    OnError,
    ParquetCorpusConfig,
    PythonCorpusConfig,
    SplitConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)
from .database import (
    CorporaDatabaseConfig,
    CorpusDatabaseConfig,
    DatabaseConfig,
    Half,
    PlantedDatabaseConfig,
)
from .embedder import EmbedderConfig, HashingEmbedderConfig, SentenceTransformerConfig
from .evaluation import EvalConfig, Reference, resolve_k, resolve_stride, wants_tokens
from .logger import CsvConfig, LoggerConfig, TensorboardConfig, WandbConfig, WandbMode
from .model import (
    RETRIEVAL_SETTINGS,
    EncoderConfig,
    FeedForwardKind,
    ModelConfig,
    PositionKind,
    ValueKind,
)
from .neighbours import NeighboursConfig
from .optim import AdamWConfig, MuonConfig, OptimConfig
from .recipe import Curriculum, Freeze, Method, PointerStart, RecipeConfig
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
    RetrieverConfig,
    TfidfRetrieverConfig,
)
from .rivals import (
    RIVALS,
    KnnLmConfig,
    MatchedConfig,
    NgramConfig,
    RalmConfig,
    RivalsConfig,
)
from .root import Config, EvaluateConfig, RunStoreConfig, StoreConfig
from .schedule import Decay, ScheduleConfig
from .tokenizer import (
    BpeTokenizerConfig,
    ByteTokenizerConfig,
    HfTokenizerConfig,
    TokenizerConfig,
)
from .trainer import TrainerConfig

__all__ = [
    "RETRIEVAL_SETTINGS",
    "RIVALS",
    "AdamWConfig",
    "BenchmarkConfig",
    "Bm25RetrieverConfig",
    "BpeTokenizerConfig",
    "ByteTokenizerConfig",
    "CcaConfig",
    "ChunkingConfig",
    "Config",
    "CorporaDatabaseConfig",
    "CorpusConfig",
    "CorpusDatabaseConfig",
    "CsvConfig",
    "Curriculum",
    "DatabaseConfig",
    "Decay",
    "DenseBm25RetrieverConfig",
    "DenseNeuralRetrieverConfig",
    "EmbedderConfig",
    "EncoderConfig",
    "EvalConfig",
    "EvaluateConfig",
    "FaissRetrieverConfig",
    "FeedForwardKind",
    "FileCorpusConfig",
    "Freeze",
    "Half",
    "HarnessConfig",
    "HashingEmbedderConfig",
    "HfCorpusConfig",
    "HfTokenizerConfig",
    "HttpRetrieverConfig",
    "HybridRetrieverConfig",
    "JsonlCorpusConfig",
    "KnnLmConfig",
    "LoggerConfig",
    "MatchedConfig",
    "Method",
    "ModelConfig",
    "MuonConfig",
    "NeighboursConfig",
    "NgramConfig",
    "NoneRetrieverConfig",
    "OnError",
    "OptimConfig",
    "OracleRetrieverConfig",
    "ParquetCorpusConfig",
    "Placement",
    "PlantedDatabaseConfig",
    "PointerStart",
    "PositionKind",
    "PythonCorpusConfig",
    "QaConfig",
    "RalmConfig",
    "RandomRetrieverConfig",
    "RecipeConfig",
    "Reference",
    "RetrieverConfig",
    "RivalsConfig",
    "RunStoreConfig",
    "ScheduleConfig",
    "SentenceTransformerConfig",
    "SplitConfig",
    "StoreConfig",
    "TensorboardConfig",
    "TextCorpusConfig",
    "TfidfRetrieverConfig",
    "TokenizerConfig",
    "TrainerConfig",
    "ValueKind",
    "WandbConfig",
    "WandbMode",
    "WikitextCorpusConfig",
    "resolve_k",
    "resolve_layers",
    "resolve_stride",
    "wants_tokens",
]
