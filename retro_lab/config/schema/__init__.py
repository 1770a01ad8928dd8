"""Typed schemas, one file for each group or two; no torch import.

A class may have `problems(prefix)`, which yields the broken rules among its own settings.
"""

from __future__ import annotations

from .chunking import ChunkingConfig
from .combined_retriever import (
    DenseBm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    EditDistanceRetrieverConfig,
    HybridRetrieverConfig,
    OracleRetrieverConfig,
)
from .corpus import (
    SPLITS,
    CorpusConfig,
    CsvCorpusConfig,
    FileCorpusConfig,
    HfCorpusConfig,
    JsonCorpusConfig,
    JsonlCorpusConfig,
    NorlundCorpusConfig,
    OnError,
    OwnCorpusConfig,
    ParquetCorpusConfig,
    PythonCorpusConfig,
    SplitConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)
from .database import (
    RESERVED_NAMES,
    CorporaDatabaseConfig,
    CorpusDatabaseConfig,
    DatabaseConfig,
    Half,
    PlantedDatabaseConfig,
)
from .embedder import (
    DualEncoderConfig,
    EmbedderConfig,
    HashingEmbedderConfig,
    ModelEmbedderConfig,
    OwnEmbedderConfig,
    SentenceTransformerConfig,
)
from .evaluation import (
    BenchmarkConfig,
    EvalConfig,
    HarnessConfig,
    InjectionConfig,
    QaConfig,
    Reference,
)
from .logger import CsvConfig, LoggerConfig, TensorboardConfig, WandbConfig, WandbMode
from .memory import FAMILIES, MemoryConfig
from .model import (
    BACKBONE_SETTINGS,
    RETRIEVAL_SETTINGS,
    CcaConfig,
    EncoderConfig,
    FeedForwardKind,
    ModelConfig,
    NgramTableConfig,
    Placement,
    PositionKind,
    ValueKind,
)
from .neighbours import NeighboursConfig
from .optim import AdamWConfig, Decay, MuonConfig, OptimConfig, ScheduleConfig
from .own_part import CallbacksConfig, EarlyStoppingConfig, MetricsConfig, OwnPart, OwnParts
from .recipe import Curriculum, Freeze, Method, PlainConfig, PlainMatch, PointerStart, RecipeConfig
from .retriever import (
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    HttpRetrieverConfig,
    LdaRetrieverConfig,
    NoneRetrieverConfig,
    OwnRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
    StoredRetrieverConfig,
    TfidfRetrieverConfig,
)
from .rivals import (
    OF_ANY_MODEL,
    OF_RETRIEVAL,
    RIVALS,
    DynamicConfig,
    EnsembleConfig,
    IntermediateConfig,
    KnnLmConfig,
    MatchedConfig,
    MemoryDecoderConfig,
    NgramConfig,
    RalmConfig,
    RivalsConfig,
    TttConfig,
)
from .root import Config, EvaluateConfig, Objective, RunStoreConfig, StoreConfig
from .setting import left_out, neutral_values
from .tokenizer import BpeTokenizerConfig, ByteTokenizerConfig, HfTokenizerConfig, TokenizerConfig
from .trainer import CHANGING_EXTRA, EngineKind, PrepareConfig, TrainerConfig

SCHEMAS: dict[str, type] = {
    "train": Config,
    "evaluate": EvaluateConfig,
    "model/base": ModelConfig,
    "cca/base": CcaConfig,
    "recipe/base": RecipeConfig,
    "plain/base": PlainConfig,
    "memory/base": MemoryConfig,
    "chunking/base": ChunkingConfig,
    "neighbours/base": NeighboursConfig,
    "retriever/none": NoneRetrieverConfig,
    "retriever/faiss": FaissRetrieverConfig,
    "retriever/bm25": Bm25RetrieverConfig,
    "retriever/random": RandomRetrieverConfig,
    "retriever/tfidf": TfidfRetrieverConfig,
    "retriever/lda": LdaRetrieverConfig,
    "retriever/edit_distance": EditDistanceRetrieverConfig,
    "retriever/hybrid": HybridRetrieverConfig,
    "retriever/dense_bm25_rerank": DenseBm25RetrieverConfig,
    "retriever/dense_neural_rerank": DenseNeuralRetrieverConfig,
    "retriever/oracle": OracleRetrieverConfig,
    "retriever/http": HttpRetrieverConfig,
    "retriever/stored": StoredRetrieverConfig,
    "retriever/custom": OwnRetrieverConfig,
    "embedder/sentence_transformer": SentenceTransformerConfig,
    "embedder/dual_encoder": DualEncoderConfig,
    "embedder/hashing": HashingEmbedderConfig,
    "embedder/custom": OwnEmbedderConfig,
    "tokenizer/bpe": BpeTokenizerConfig,
    "tokenizer/byte": ByteTokenizerConfig,
    "tokenizer/hf": HfTokenizerConfig,
    "corpus/python": PythonCorpusConfig,
    "corpus/jsonl": JsonlCorpusConfig,
    "corpus/json": JsonCorpusConfig,
    "corpus/csv": CsvCorpusConfig,
    "corpus/text": TextCorpusConfig,
    "corpus/parquet": ParquetCorpusConfig,
    "corpus/norlund": NorlundCorpusConfig,
    "corpus/hf": HfCorpusConfig,
    "corpus/wikitext": WikitextCorpusConfig,
    "corpus/custom": OwnCorpusConfig,
    "database/base": DatabaseConfig,
    "database/corpus": CorpusDatabaseConfig,
    "database/corpora": CorporaDatabaseConfig,
    "database/planted": PlantedDatabaseConfig,
    "optim/adamw": AdamWConfig,
    "optim/muon": MuonConfig,
    "schedule/base": ScheduleConfig,
    "trainer/base": TrainerConfig,
    "callbacks/base": CallbacksConfig,
    "callbacks/early_stopping": EarlyStoppingConfig,
    "logger/wandb": WandbConfig,
    "logger/csv": CsvConfig,
    "logger/tensorboard": TensorboardConfig,
    "eval/base": EvalConfig,
    "eval/harness": HarnessConfig,
    "eval/qa": QaConfig,
}
"""Hydra's name of each schema, below `schema/`."""
