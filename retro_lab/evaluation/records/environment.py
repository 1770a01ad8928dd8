"""Software versions, git commit and hardware, for results.json and bug reports."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "retro-lab",
    "torch",
    "pytorch-lightning",
    "numpy",
    "faiss-cpu",
    "bm25s",
    "sentence-transformers",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "pyarrow",
    "wandb",
)


def environment() -> dict[str, Any]:
    """Versions (null where a package is not installed), git commit, platform, CPU and GPUs.

    To stay fast, GPUs are listed only if torch is already imported, and CPU kernels only if they
    were needed.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(Path(__file__).parent),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "kernels": _kernels(),
        "gpus": _gpu_names(),
    }


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache  # the code that runs is the one that was imported
def _git(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that contains this package; None for an installed copy."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "environment.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _kernels() -> str | None:
    compiled = sys.modules.get("retro_lab.nn.cpu.compiled")
    return compiled.describe() if compiled is not None and compiled.needed() else None


def _gpu_names() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
