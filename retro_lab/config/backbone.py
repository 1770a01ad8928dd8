"""Names, paths and content digests of pretrained models; loads none of them."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from .errors import UserError, first_line

_WEIGHTS = (".safetensors", ".bin", ".gguf")
_CONFIG = "config.json"
_SMALL = (_CONFIG, "tokenizer.json", "tokenizer_config.json")
_SECONDS = 10  # to wait for the hub's answer


def local_path(name: str) -> Path | None:
    """The local folder or file `name`; None if it does not exist, as for a name on the hub."""
    path = Path(name).expanduser()
    return path if path.exists() else None


def check_name(key: str, name: str) -> None:
    """Refuses the name of a model or tokenizer if it is a missing path, or the hub is out of reach.

    Loading asks the hub for such names again and again for half a minute; this asks once. What the
    hub's cache holds needs no network.

    Args:
        key: the setting with the name, for errors.

    Raises:
        UserError: the name looks like a path that does not exist, or there is no network.
    """
    if local_path(name) is not None:
        return
    if name.startswith(("/", ".", "~")) or name.endswith("/") or name.count("/") > 1:
        raise UserError(
            f"{key}={name} can't be loaded: there is no such folder or file",
            fix="check its spelling; a name on the hub is NAME or ORGANISATION/NAME",
        )
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        if any(isinstance(try_to_load_from_cache(name, file), str) for file in _SMALL):
            return
        get_hf_file_metadata(hf_hub_url(name, _CONFIG), timeout=_SECONDS)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled):
        return  # loading gives the hub's own reason at once
    except Exception as error:
        if not is_of_transport(error):
            raise
        raise UserError(
            f"{key}={name} is no folder or file here, and the Hugging Face hub can't be reached: "
            f"{first_line(error)}",
            fix="check the name and the network, or give the folder of a downloaded model",
        ) from error


def is_of_transport(error: Exception) -> bool:
    """Whether a connection failed: of the hub's HTTP client, httpx or another by version."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def gguf_file(name: str) -> Path | None:
    """The GGUF file at `name`, or the GGUF model in the folder `name`; None for other models."""
    path = local_path(name)
    if path is None or path.is_file():
        return path if path is not None and path.suffix == ".gguf" else None
    files = sorted(path.glob("*.gguf"))
    return files[0] if files and not (path / _CONFIG).exists() else None


def tokenizer_path(name: str) -> str | None:
    """Path or hub name of a backbone's tokenizer; None for a GGUF file without a tokenizer.json.

    A GGUF file alone holds too little to build its tokenizer.
    """
    file = gguf_file(name)
    if file is None:
        return name
    return str(file.parent) if (file.parent / "tokenizer.json").exists() else None


def plain_name(name: str) -> str:
    """The last part of a backbone's name, made safe for a directory name."""
    path = Path(name).expanduser()
    last = (
        path.stem if path.suffix == ".gguf" else path.resolve().name if path.exists() else path.name
    )
    return re.sub(r"[^A-Za-z0-9_.]+", "_", last).lstrip("_.").lower() or "backbone"


def identity(name: str) -> dict[str, str]:
    """The part of the run key that identifies a backbone.

    A local model gives a digest of its content, so that a changed folder counts as another
    backbone; a hub model gives its name.
    """
    path = local_path(name)
    if path is None:
        return {"name": name}
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if _counts(f))
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name}:{_sha256(file, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return {"sha256": digest.hexdigest()}


def _counts(file: Path) -> bool:
    return file.is_file() and (file.name == _CONFIG or file.suffix in _WEIGHTS)


@lru_cache(maxsize=256)  # a run computes its key a dozen times
def _sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
