"""Compiles the C kernels of `kernels/` for the present processor on first use.

Compilation takes two seconds. The library is cached in the user's cache folder, with its checksum
in the name, since loading a damaged library would crash Python. Without a C compiler with OpenMP,
or without a cache folder, `library` is None and PyTorch's operations are used. The kernels run on
the threads of PyTorch's own OpenMP, to which they are linked on loading. `native.py` and
`fused_token.py` wrap them as functions of tensors.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "kernels"
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120  # limit on compilation; a slower compiler counts as missing


class Geometry(Structure):
    """The struct `Geometry` of attention.c."""

    _fields_ = [
        *((name, c_long) for name in ("batch", "heads", "queries", "keys", "width")),
        *(
            (f"{part}_{of}", c_long)
            for part in ("query", "key", "value")
            for of in ("batch", "row")
        ),
        ("mask", c_void_p),
        *((name, c_long) for name in ("mask_batch", "mask_query", "causal")),
        *(
            (f"{part}_{wave}", c_void_p)
            for part in ("query", "key")
            for wave in ("cosines", "sines")
        ),
        *((name, c_void_p) for name in ("share", "follows")),
    ]


class Held(Structure):
    """The struct `Held` of token.c."""

    _fields_ = [
        *((name, c_long) for name in ("rows", "heads", "width", "capacity", "seen", "grows")),
        *((name, c_void_p) for name in ("keys", "values", "last", "share", "cosines", "sines")),
        ("cos_sin_row", c_long),
        ("mask", c_void_p),
        ("mask_row", c_long),
    ]


_REAL = {torch.float32: c_float, torch.float64: c_double}
# Arguments of each function, before the number of threads: p a tensor, n an integer, r a real
# number, g a `Geometry`, h a `Held`.
_ARGUMENTS = {
    "rms_norm": "pprpnn",
    "rms_norm_backward": "pprppppnn",
    "gelu": "ppn",
    "gelu_backward": "pppn",
    "rotate": "pnnnppn",
    "pack": "pnnnnp",
    "multiply": "pnnnpnpp",
    "gemv": "pppnnn",
    "feed_few": "pprpppnnn",
    "attend_few": "hpnprppnp",
    "cross_entropy": "pppnn",
    "attend": "gppppp",
    "attend_backward": "gpppppppppp",
}


def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled kernels for a precision; None if unavailable."""
    return loaded(dtype)[0]


def describe() -> str:
    """A line on whether kernels for single precision exist, and why not."""
    return loaded(torch.float32)[1]


def needed() -> bool:
    """Whether kernels have been requested so far."""
    return loaded.cache_info().currsize > 0


@cache
def loaded(dtype: torch.dtype) -> tuple[ctypes.CDLL | None, str]:
    """The kernels, or None, and a line on their origin; compiled once for each precision."""
    if dtype not in _REAL:
        return None, f"none: {dtype} is neither single nor double precision"
    kernels, words = compiled(SOURCES, FLAGS if dtype == torch.float32 else (*FLAGS, "-DDOUBLE"))
    return None if kernels is None else _typed(kernels, dtype), words


def compiled(sources: Path, flags: tuple[str, ...] = FLAGS) -> tuple[ctypes.CDLL | None, str]:
    """The library of the C files in a folder, or None, and a line on its origin."""
    words = f"none: no compiler is called {', '.join(COMPILERS)}"
    for compiler in filter(None, map(shutil.which, COMPILERS)):
        try:
            return ctypes.CDLL(str(_compiled(compiler, sources, flags))), f"compiled by {compiler}"
        except subprocess.CalledProcessError as error:
            why = error.stderr.decode(errors="replace").strip().partition("\n")[0]
            words = f"none: {compiler} fails with '{why}'"
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            words = f"none: {error}"
    return None, words


def _typed(kernels: ctypes.CDLL, dtype: torch.dtype) -> ctypes.CDLL:
    """The kernels with the types of their arguments."""
    types = {"p": c_void_p, "n": c_long, "r": _REAL[dtype]}
    types |= {"g": POINTER(Geometry), "h": POINTER(Held)}
    for name, letters in _ARGUMENTS.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = [*map(types.__getitem__, letters), c_int], None
    kernels.lanes.restype = kernels.packed_size.restype = c_long
    kernels.packed_size.argtypes = [c_long, c_long]
    return kernels


def _compiled(compiler: str, folder: Path, flags: tuple[str, ...]) -> Path:
    """The shared library of a folder's sources for this compiler, processor and C library.

    Raises:
        OSError, RuntimeError: no writable cache folder.
        subprocess.SubprocessError: the compiler fails.
    """
    sources = sorted(folder.iterdir())
    setting = (compiler, *flags, *platform.libc_ver(), *_instructions())
    digest = hashlib.sha256(" ".join(setting).encode())
    for source in sources:
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    cache_folder = home.absolute() / "retro_lab"
    name = f"kernels-{digest.hexdigest()[:16]}"
    damaged = []
    for built in cache_folder.glob(f"{name}-*.so"):
        if built.name == _with_checksum(name, built):
            return built
        damaged.append(built)
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder, ignore_cleanup_errors=True) as place:
        units = [str(source) for source in sources if source.suffix == ".c"]
        options = {"cwd": place, "check": True, "capture_output": True, "timeout": SECONDS}
        subprocess.run([compiler, *flags, "-fopenmp", "-fPIC", "-c", *units], **options)
        # Without -fopenmp: a second OpenMP runtime would compete for the cores.
        objects = [str(path) for path in Path(place).glob("*.o")]
        subprocess.run([compiler, "-shared", "-o", "kernels.so", *objects, "-lm"], **options)
        library = Path(place) / "kernels.so"
        built = cache_folder / _with_checksum(name, library)
        library.replace(built)  # atomic, so concurrent builds are safe
    for other in damaged:
        if other != built:
            other.unlink(missing_ok=True)
    return built


def _with_checksum(name: str, library: Path) -> str:
    """The file name of a cached library."""
    return f"{name}-{hashlib.sha256(library.read_bytes()).hexdigest()[:16]}.so"


def _instructions() -> list[str]:
    """The processor's features, since machines with one home folder may differ."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return []
    lines = info.read_text(encoding="utf-8").splitlines()
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
