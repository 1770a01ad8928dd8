"""The C kernels of `kernels/` as functions of tensors on a CPU.

They are compiled for the processor at hand when they are first needed, which takes two seconds, and
kept in the user's cache folder. Where there is no C compiler with OpenMP, or no such folder,
`library` is None and the plain operations of PyTorch serve. They run on the threads of PyTorch's
own OpenMP, whose symbols they are linked to when they are loaded, and their results do not depend
on the number of threads.

Shapes: T rows of width D, see `attention.py` for the others; all tensors in single or all in
double precision.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCES = Path(__file__).parent / "kernels"
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120  # a compiler that takes longer is none


class _Geometry(Structure):
    """`Geometry` of attention.c."""

    _fields_ = [
        *((name, c_long) for name in ("batch", "heads", "queries", "keys", "width")),
        *(
            (f"{part}_{of}", c_long)
            for part in ("query", "key", "value")
            for of in ("batch", "row")
        ),
        ("mask", c_void_p),
        *((name, c_long) for name in ("mask_batch", "mask_query", "causal")),
    ]


_REAL = {torch.float32: c_float, torch.float64: c_double}
# What each function takes, before the number of threads: p a tensor, n a number of something, r a
# real number, g a geometry.
_ARGUMENTS = {
    "rms_norm": "pprpnn",
    "rms_norm_backward": "pprppppnn",
    "gelu": "ppn",
    "gelu_backward": "pppn",
    "turn": "pnnnnppnnr",
    "few_rows": "pppnnn",
    "surprise": "pppnn",
    "attend": "gppppp",
    "attend_backward": "gppppppppp",
}


def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled kernels for a precision; None where they cannot be had."""
    return _loaded(dtype)[0]


def describe() -> str:
    """Whether there are kernels for single precision, and else why not, in a line."""
    return _loaded(torch.float32)[1]


def needed() -> bool:
    """Whether anything asked for kernels so far."""
    return _loaded.cache_info().currsize > 0


@cache
def _loaded(dtype: torch.dtype) -> tuple[ctypes.CDLL | None, str]:
    if dtype not in _REAL:
        return None, f"none: {dtype} is neither single nor double precision"
    words = f"none: no compiler is called {', '.join(COMPILERS)}"
    for compiler in filter(None, map(shutil.which, COMPILERS)):
        try:
            return _open(_compiled(compiler, dtype), dtype), f"compiled by {compiler}"
        except subprocess.CalledProcessError as error:
            why = error.stderr.decode(errors="replace").strip().partition("\n")[0]
            words = f"none: {compiler} fails with '{why}'"
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            words = f"none: {error}"
    return None, words


def _open(built: Path, dtype: torch.dtype) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(built))
    types = {"p": c_void_p, "n": c_long, "r": _REAL[dtype], "g": POINTER(_Geometry)}
    for name, letters in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = [*map(types.__getitem__, letters), c_int], None
    loaded.lanes.restype = c_long
    return loaded


def _compiled(compiler: str, dtype: torch.dtype) -> Path:
    """The shared library for these sources, this compiler, this processor and this C library.

    Raises:
        OSError, RuntimeError: no cache folder, or none that can be written.
        subprocess.SubprocessError: the compiler fails.
    """
    sources = sorted(SOURCES.iterdir())
    flags = (*FLAGS, "-DDOUBLE") if dtype == torch.float64 else FLAGS
    setting = (compiler, *flags, *platform.libc_ver(), *_instructions())
    digest = hashlib.sha256(" ".join(setting).encode())
    for source in sources:
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = home.absolute() / "retro_lab"
    built = folder / f"kernels-{digest.hexdigest()[:16]}.so"
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
        units = [str(source) for source in sources if source.suffix == ".c"]
        options = {"cwd": place, "check": True, "capture_output": True, "timeout": SECONDS}
        subprocess.run([compiler, *flags, "-fopenmp", "-fPIC", "-c", *units], **options)
        # Without -fopenmp: the runtime of another copy of OpenMP would compete for the cores.
        objects = [str(path) for path in Path(place).glob("*.o")]
        subprocess.run([compiler, "-shared", "-o", "kernels.so", *objects, "-lm"], **options)
        (Path(place) / "kernels.so").replace(built)  # at once, whoever else builds it too
    return built


def _instructions() -> list[str]:
    """What the processor can do, so that a home folder may serve several kinds."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return []
    lines = info.read_text(encoding="utf-8").splitlines()
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / rms(x) * gain for x [.., D]."""
    x = x.contiguous()
    out, (rows, width) = torch.empty_like(x), _rows(x)
    _call("rms_norm", x, gain, eps, out, rows, width)
    return out


def rms_norm_backward(
    x: Tensor,
    gain: Tensor,
    eps: float,
    grad: Tensor,
    grad_gain: Tensor,
    beside: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """Gradient for x of `rms_norm`'s result, plus `beside` if any; adds to the gain's.

    Args:
        out: where to write it, as x in shape and in one piece; None is a new tensor.
    """
    out, (rows, width) = torch.empty_like(x) if out is None else out, _rows(x)
    _call("rms_norm_backward", x, gain, eps, grad, beside, out, grad_gain, rows, width)
    return out


def gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU."""
    out = torch.empty_like(x)
    _call("gelu", x, out, x.numel())
    return out


def gelu_backward(x: Tensor, grad: Tensor) -> Tensor:
    """gelu(x) once more; `grad`, of it, becomes that of x."""
    out = torch.empty_like(x)
    _call("gelu_backward", x, grad, out, x.numel())
    return out


def turn(
    x: Tensor, num_heads: int, turns: tuple[Tensor, Tensor], first: int, back: bool = False
) -> None:
    """Turns all heads of x [T, H*P], which may be a part of wider rows, in place.

    Args:
        turns: cosines and sines [L, P], see `positions.rotate`.
        first: row t stands at place (first + t) % L.
        back: by the opposite angles.
    """
    (tokens, width), (cosines, sines) = x.shape, turns
    sizes = tokens, x.stride(0), num_heads, width // num_heads
    _call("turn", x, *sizes, cosines, sines, first, len(cosines), -1.0 if back else 1.0)


def few_rows(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [.., D], W [V, D], for as few rows as a generated token has."""
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"{x.shape[-1]} features for weights of {weight.shape[1]}")
    x, weight, (rows, width) = x.contiguous(), weight.contiguous(), _rows(x)
    out = x.new_empty(*x.shape[:-1], len(weight))
    _call("few_rows", x, weight, out, rows, width, len(weight))
    return out


def surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats [T] of targets [T], 0 where one is negative; logits [T, V] become their gradient."""
    nats, (rows, width) = logits.new_empty(len(logits)), _rows(logits)
    _call("surprise", logits, targets, nats, rows, width)
    return nats


def can_attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether `attend` takes these, see there."""
    loaded, width = library(query.dtype), query.shape[-1]
    return (
        loaded is not None
        and width % loaded.lanes() == 0
        and query.shape[:2] == key.shape[:2]
        and key.shape == value.shape
        and all(x.stride(-1) == 1 and x.stride(1) == width for x in (query, key, value))
        and (mask is None or (mask.dim() == 4 and mask.shape[1] == 1 and mask.dtype == torch.bool))
    )


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """softmax(q k / sqrt(P)) v and, for the backward pass, [B, H, L] logarithms of the sums.

    Args:
        query: [B, H, L, P], heads next to each other in memory, as are those of the others.
        key, value: [B, H, S, P].
        mask: broadcastable to [B, 1, L, S], True where attention is allowed.
        causal: only places up to the query's own.

    Returns:
        [B, H, L, P], laid out as [B, L, H, P].
    """
    batch, heads, length, width = query.shape
    out = query.new_empty(batch, length, heads, width)
    log_sum = query.new_empty(batch, heads, length)
    geometry, kept = _geometry(query, key, value, mask, causal)
    _call("attend", byref(geometry), query, key, value, out, log_sum)
    del kept
    return out.transpose(1, 2), log_sum


def attend_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    out: Tensor,
    log_sum: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend` for query, key and value, laid out as its result is."""
    grads = [x.transpose(1, 2).new_empty(x.transpose(1, 2).shape) for x in (query, key, value)]
    geometry, kept = _geometry(query, key, value, mask, causal)
    grad = grad.transpose(1, 2).contiguous()
    _call("attend_backward", byref(geometry), query, key, value, out, log_sum, grad, *grads)
    del kept
    of_query, of_key, of_value = (of_part.transpose(1, 2) for of_part in grads)
    return of_query, of_key, of_value


def _geometry(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
) -> tuple[_Geometry, Tensor | None]:
    """Sizes for attention.c, and the mask that they point to."""
    batch, heads, length, width = query.shape
    strides = [stride for x in (query, key, value) for stride in (x.stride(0), x.stride(2))]
    by_batch = by_query = 0
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], key.shape[2]).contiguous()
        by_batch = mask.stride(0) if mask.shape[0] > 1 else 0
        by_query = mask.stride(-2) if mask.shape[-2] > 1 else 0
    pointer = None if mask is None else mask.data_ptr()
    sizes = (batch, heads, length, key.shape[2], width)
    return _Geometry(*sizes, *strides, pointer, by_batch, by_query, causal), mask


def _rows(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


def _call(name: str, *arguments: Any) -> None:
    """Calls a function in the precision of its first tensor, on PyTorch's threads."""
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    dtype = tensors[0].dtype
    if any(x.is_floating_point() and x.dtype != dtype for x in tensors):
        raise TypeError(f"{name}: all tensors must be {dtype}")
    loaded = library(dtype)
    assert loaded is not None
    plain = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    getattr(loaded, name)(*plain, torch.get_num_threads())
