"""Writes a finished run as a Hugging Face model folder, and sends the folder to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retro_lab.config.backbone import is_of_transport
from retro_lab.config.console import no_loading_bar
from retro_lab.config.errors import UserError, first_line
from retro_lab.config.schema import (
    HttpRetrieverConfig,
    MemoryConfig,
    NoneRetrieverConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    StoredRetrieverConfig,
)
from retro_lab.evaluation.report.model_card import model_card
from retro_lab.huggingface import RetroForCausalLM
from retro_lab.nn import RetroConfig
from retro_lab.retrieval.folder import write_database
from retro_lab.run.finished import FinishedRun
from retro_lab.store.published_folder import published, taken
from retro_lab.text.tokenizers.fast import as_fast

_WITHOUT_INDEX = (
    NoneRetrieverConfig,
    RandomRetrieverConfig,
    OracleRetrieverConfig,
    StoredRetrieverConfig,
    HttpRetrieverConfig,
)


def export(
    run: FinishedRun,
    out: Path,
    *,
    licence: str = "other",
    memory: str | None = None,
    database: bool = False,
) -> None:
    """Writes the model folder atomically; a folder that already holds this export is kept.

    The run's directory is only read.

    Args:
        licence: of the weights, as the hub spells it.
        memory: also writes the database as a memory: `suffix` or `suffix_topic`.
        database: also writes index, tokenizer and text of the database, so that the folder
            retrieves by itself.

    Raises:
        UserError: the folder has other content or can't be made, or the run has no such memory or
            no database that can be written.
    """
    here = out.resolve() == Path.cwd()  # the working directory must not be replaced
    if out.exists() and (here or not out.is_dir() or not _may_be_export(out)):
        raise taken(out)
    model = _model(run)
    card = model_card(run.results(), out.name, licence, database=database)
    with published(out) as partial:
        with no_loading_bar():
            model.save_pretrained(partial)
        as_fast(run.tokenizer, run.config.chunking.sequence_length).save_pretrained(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        if database:
            _write_database(run, model.model.config, partial)
        if memory is not None:
            from retro_lab.run.attached_memory import AttachedMemory

            asked = MemoryConfig.of(*memory.split("_"))
            AttachedMemory(run.directory.path, asked).write(partial / "memory")


def check_push(name: str) -> None:
    """Refuses what `push` could not send, before the model is written; asks no server.

    Raises:
        UserError: `name` is not `organisation/model`, or nobody is logged in.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    fix = "push=ORGANISATION/MODEL"
    if "/" not in name:  # the hub completes such a name when it creates a model, not on upload
        raise UserError(f"push={name}: the name of the user or organisation is missing", fix=fix)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"push={name}: {first_line(error)}", fix=fix) from error
    if get_token() is None:
        raise UserError(
            f"push={name}: no login for the Hugging Face hub was found",
            fix="hf auth login, or HF_TOKEN=...; or leave out push=",
        )


def push(folder: Path, name: str, hub: Any = None) -> str:
    """Sends an exported folder to the Hugging Face hub, as a private model; returns its address.

    Args:
        name: `organisation/model`, as `check_push` accepts it.
        hub: a `huggingface_hub.HfApi`, by default that of the user's login.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = hub or HfApi()
    try:
        address = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Model of retro_lab")
    except Exception as error:
        if not (isinstance(error, (HfHubHTTPError, OSError)) or is_of_transport(error)):
            raise
        raise UserError(
            f"push={name}: {first_line(error)}",
            fix=f"hf auth login, or HF_TOKEN=...; the model is in {folder}, and the same command "
            "sends it again",
        ) from error
    return str(address)


def _may_be_export(out: Path) -> bool:
    """Whether a folder is empty or looks like an export; `published` compares its files."""
    return not any(out.iterdir()) or (out / "model.safetensors").is_file()


def _model(run: FinishedRun) -> RetroForCausalLM:
    tokenizer = run.tokenizer
    model = RetroForCausalLM.of(
        run.model().cpu(),
        max_position_embeddings=run.config.chunking.sequence_length,
        bos_token_id=tokenizer.boundary_id,
        eos_token_id=tokenizer.boundary_id,
        pad_token_id=tokenizer.pad_id,
    )
    if tokenizer.pad_id < model.config.vocab_size:
        model.generation_config.suppress_tokens = [tokenizer.pad_id]
    return model


def _write_database(run: FinishedRun, model: RetroConfig, folder: Path) -> None:
    """Writes the run's database below the model's folder.

    Raises:
        UserError: the run has none that can be written.
    """
    retriever, embedder = run.config.retriever, run.config.embedder
    if retriever.needs_texts:
        raise UserError(
            f"database=true: retriever={retriever.name} reads the texts of its candidates, and a "
            "folder's search has their tokens alone",
            fix="python -m retro_lab serve run=... searches with it; or leave out database=true, "
            "or export a run with another retriever, such as bm25 or faiss_flat",
        )
    if isinstance(retriever, _WITHOUT_INDEX):
        raise UserError(
            f"database=true: retriever={retriever.name} has no index that could be searched "
            "without the run",
            fix="leave out database=true, or export a run with another retriever, such as bm25",
        )
    embeds = retriever.needs_embeddings
    models = (getattr(embedder, name, None) for name in ("model", "query_model"))
    for name in (name for name in models if embeds and name and Path(name).exists()):
        raise UserError(
            f"database=true: queries are embedded by {name}, a folder of this machine",
            fix="train with an embedder that others can load, or leave out database=true",
        )
    graph = run.graph
    write_database(
        folder,
        run.search(model, k=run.config.neighbours.k),
        graph.chunks,
        retriever=retriever,
        embedder=embedder if embeds else None,
        index=graph.index(retriever).artifact.path,
        tokenizer=graph.tokenizer.artifact.path,
    )
