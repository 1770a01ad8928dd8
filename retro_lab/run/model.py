"""Builds models and their data from configurations, untrained or with a trained run's weights."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from typing import TYPE_CHECKING, TypeAlias

import torch

from retro_lab.config.errors import UserError
from retro_lab.config.refusals import is_refused
from retro_lab.config.schema import (
    BpeTokenizerConfig,
    ByteTokenizerConfig,
    Config,
    TokenizerConfig,
)
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.cpu import accelerate
from retro_lab.nn.ngram_table import NgramTable
from retro_lab.store import Artifact
from retro_lab.store.checksums import check_recorded, recorded
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.tokenizers import Tokenizer, load_tokenizer

from .backbone import backbone_weights, with_backbone
from .data.graph import DataGraph
from .directory import RunDirectory

if TYPE_CHECKING:
    from retro_lab.huggingface import GraftedRetro

TOKENIZER, MODEL_FILE = "tokenizer", "model.json"
LanguageModel: TypeAlias = "Retro | GraftedRetro"


def retro_config(config: Config, vocab_size: int, pad_id: int) -> RetroConfig:
    """The model's configuration; `retriever=none` leaves out all retrieval layers."""
    model, chunking = config.model, config.chunking
    full = RetroConfig(
        vocab_size=vocab_size,
        d_model=model.d_model,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        head_dim=model.head_dim,
        d_ff=model.d_ff,
        cca_layers=config.cca_layers,
        encoder_d_model=model.encoder.d_model,
        encoder_num_layers=model.encoder.num_layers,
        encoder_cca_layers=tuple(model.encoder.cca_layers),
        encoder_num_heads=model.encoder.num_heads or model.num_heads,
        encoder_head_dim=model.encoder.head_dim or model.head_dim,
        chunk_size=chunking.chunk_size,
        neighbour_length=chunking.chunk_size * (1 + chunking.continuation_chunks),
        pad_id=pad_id,
        dropout=model.dropout,
        share_embeddings=model.share_embeddings,
        positions=model.positions.value,
        cca_positions=model.cca_positions,
        value=model.value.value,
        gated_cca=model.gated_cca,
        neighbour_noise=model.neighbour_noise,
        ff=model.ff.value,
        ngram_rows=model.ngram_table.rows,
        ngram_width=model.ngram_table.width,
        ngram_longest=model.ngram_table.longest,
        ngram_heads=model.ngram_table.heads,
        ngram_layer=model.ngram_table.layer,
        smeared_keys=config.recipe.smeared_keys,
        pointer=config.recipe.pointer,
        pointer_heads=config.recipe.pointer_heads,
        pointer_start=config.recipe.pointer_start.value,
        match_bias=config.recipe.match_bias,
    )
    return full if config.retriever.retrieves else full.baseline


def build_model(
    config: Config, vocab_size: int | None = None, pad_id: int | None = None
) -> LanguageModel:
    """The network, initialised from the global torch seed, without weights of backbone or baseline.

    Args:
        config: of the run.
        vocab_size: of the tokenizer; `nominal_vocab_size` by default.
        pad_id: the last id by default.
    """
    if config.recipe.backbone is not None:
        return _build_graft(config, config.recipe.backbone, vocab_size, pad_id)
    size = nominal_vocab_size(config.tokenizer) if vocab_size is None else vocab_size
    sized = retro_config(config, size, size - 1 if pad_id is None else pad_id)
    return accelerate(Retro(sized, NgramTable))


def _build_graft(
    config: Config, name: str, vocab_size: int | None, pad_id: int | None
) -> GraftedRetro:
    from retro_lab.huggingface import GraftedRetro
    from retro_lab.huggingface.backbones import build_backbone, read_config, sizes

    config, pretrained = with_backbone(config), read_config(name)
    size = sizes(pretrained).vocab_size + 1 if vocab_size is None else vocab_size
    pad_id = size - 1 if pad_id is None else pad_id
    backbone = build_backbone(pretrained, config.model.dropout)
    # GraftedRetro shares embeddings of another width by a projection; RetroConfig has no such one.
    own = dataclasses.replace(config.model, share_embeddings=False)
    sized = retro_config(dataclasses.replace(config, model=own), size, pad_id)
    return accelerate(GraftedRetro(backbone, sized, config.model.share_embeddings))


def nominal_vocab_size(tokenizer: TokenizerConfig) -> int:
    """Vocabulary size by the configuration; BPE on a small corpus may end up smaller."""
    if isinstance(tokenizer, BpeTokenizerConfig):
        return tokenizer.vocab_size
    if isinstance(tokenizer, ByteTokenizerConfig):
        return 258
    return 50_258  # a Hugging Face tokenizer's size is known only once it is loaded


def load_model(config: Config, run: RunDirectory, graph: DataGraph) -> LanguageModel:
    """The run's trained model, in evaluation mode, checked to be trained on the graph's text.

    Raises:
        UserError: as `open_model`, or the run was trained on other text.
    """
    run.check_text(graph.text_lineage)
    return open_model(config, run, graph.chunks)


def open_model(config: Config, run: RunDirectory, ids: ChunkStore | Tokenizer) -> LanguageModel:
    """The run's trained model, in evaluation mode.

    Args:
        ids: gives vocabulary size and padding id.

    Raises:
        UserError: if the checkpoint is missing, or of another model or vocabulary.
    """
    model = build_model(config, ids.vocab_size, ids.pad_id)
    try:
        if config.is_backbone_alone:
            model.load_backbone(backbone_weights(config))
        else:
            model.load_state_dict(run.weights())
    except RuntimeError as error:
        if is_refused(error):
            raise
        raise UserError(
            f"the checkpoint of {run.path} does not fit its configuration and its tokenizer "
            f"({ids.vocab_size} ids): {str(error).splitlines()[-1].strip()}",
            fix="restore config.yaml and the tokenizer that the run was trained with",
        ) from error
    device = "cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"
    return model.to(device).eval()


def describe_model(run: RunDirectory, model: LanguageModel, tokenizer: Artifact) -> None:
    """Writes a copy of the tokenizer and `model.json` (for people to read) beside the weights.

    Args:
        tokenizer: the stored result to copy.
    """
    if not run.is_rank_zero:
        return
    folder = run.path / TOKENIZER
    folder.mkdir(parents=True, exist_ok=True)
    for name in tokenizer.manifest["files"]:
        with recorded(folder / name) as temporary:
            shutil.copyfile(tokenizer.file(name), temporary)
    counts = {name: tokenizer.stats[name] for name in ("vocab_size", "boundary_id", "pad_id")}
    sizes = dataclasses.asdict(model.config)
    run.record(MODEL_FILE, {**counts, "parameters": parameter_counts(model), "model": sizes})


def open_tokenizer(run: RunDirectory) -> Tokenizer | None:
    """The run's copy of the tokenizer; None for an older run without one.

    Raises:
        UserError: a file of the copy is damaged.
    """
    folder = run.path / TOKENIZER
    if not folder.is_dir():
        return None
    fix = f"put back a copy of it; or remove {folder}, and the store's tokenizer is read"
    for path in folder.iterdir():
        check_recorded(path, fix)
    return load_tokenizer(folder)


def build_data(config: Config, graph: DataGraph) -> RetroDataModule:
    """The LightningDataModule over the chunks and neighbours of a run."""
    return RetroDataModule(
        graph.chunks,
        graph.table,
        chunking=config.chunking,
        neighbours=config.neighbours,
        schedule=config.schedule,
        trainer=config.trainer,
        eval=config.eval,
        seed=config.seed,
        data_keys=graph.lineage,
    )


def parameter_counts(model: LanguageModel) -> dict[str, int]:
    """Number of parameters: total, of the retrieval layers, and of the token embeddings."""
    extra = model.retrieval_parameters()
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return {
        "total": sum(sizes.values()),
        "retrieval": sum(size for name, size in sizes.items() if name in extra),
        "embeddings": sum(size for name, size in sizes.items() if "embedding" in name),
    }


def weights_digest(model: LanguageModel) -> str:
    """SHA-256 over names, shapes and values of all weights."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        found.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        found.update(array.view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return found.hexdigest()
