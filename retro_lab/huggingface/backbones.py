"""Hugging Face decoders that retrieval can be grafted onto: families, loading, and their parts.

`transformers` is imported inside functions: it takes seconds, and most runs have no backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from retro_lab.config.backbone import check_name, gguf_file
from retro_lab.config.console import no_loading_bar
from retro_lab.config.errors import UserError
from retro_lab.config.refusals import is_refused

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class Family(NamedTuple):
    """Attribute names of a decoder's parts.

    Attributes:
        blocks: the base model's list of blocks.
        attention: a block's self-attention, which returns a tuple that begins with the update to
            the residual stream.
    """

    blocks: str
    attention: str


_LLAMA_LIKE = Family("layers", "self_attn")
FAMILIES = {
    "gpt2": Family("h", "attn"),
    "gpt_neox": Family("layers", "attention"),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "smollm3": _LLAMA_LIKE,
}
"""Parts by `model_type`. In these families a block adds the attention's output to its input
unchanged; in one that normalises the output first (OLMo 2, Gemma 2), CCA would be misplaced.
"""


class Sizes(NamedTuple):
    """A backbone's sizes from its configuration, under this project's names.

    Attributes:
        max_length: longest window for its positions and attention, None if unlimited.
    """

    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    head_dim: int
    d_ff: int
    max_length: int | None


def read_config(name: str) -> PretrainedConfig:
    """A backbone's configuration, by hub name, local folder or GGUF file; reads no weights.

    Raises:
        UserError: the configuration can't be loaded, or is no decoder of a family in `FAMILIES`.
    """
    from transformers import AutoConfig

    _check_path(name)
    with _as_user_error(name):
        config = AutoConfig.from_pretrained(**_source(name), trust_remote_code=False)
    key, supported = f"recipe.backbone={name}", ", ".join(FAMILIES)
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{key}: {config.model_type} is an encoder-decoder; retrieval is grafted on decoders",
            fix=f"choose a causal language model of one of these families: {supported}",
        )
    if config.model_type not in FAMILIES:
        raise UserError(
            f"{key}: where the blocks of a {config.model_type} are is not known",
            fix=f"choose a model of one of these families: {supported}; or add its line to "
            "retro_lab/huggingface/backbones.py",
        )
    return config


def sizes(config: PretrainedConfig) -> Sizes:
    """The sizes in a configuration."""
    found: Any = config
    width, heads = found.hidden_size, found.num_attention_heads
    sliding = None
    if getattr(found, "use_sliding_window", True):
        sliding = getattr(found, "sliding_window", None)
    limits = [getattr(found, "max_position_embeddings", None), sliding]
    return Sizes(
        vocab_size=found.vocab_size,
        d_model=width,
        num_layers=found.num_hidden_layers,
        num_heads=heads,
        head_dim=getattr(found, "head_dim", None) or width // heads,
        d_ff=getattr(found, "intermediate_size", None)
        or getattr(found, "n_inner", None)
        or 4 * width,
        max_length=min((limit for limit in limits if limit), default=None),
    )


def build_backbone(config: PretrainedConfig, dropout: float = 0.0) -> PreTrainedModel:
    """A decoder with randomly initialised weights.

    Args:
        dropout: replaces every dropout of the configuration.
    """
    from transformers import AutoModelForCausalLM

    for name, value in vars(config).items():
        if isinstance(value, float) and name.endswith(("dropout", "_pdrop")):
            setattr(config, name, dropout)
    return AutoModelForCausalLM.from_config(
        config, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False
    )


def load_weights(name: str) -> dict[str, Tensor]:
    """The `state_dict` of a backbone, in single precision.

    Raises:
        UserError: the weights can't be loaded.
    """
    from transformers import AutoModelForCausalLM

    with _as_user_error(name), no_loading_bar():
        model = AutoModelForCausalLM.from_pretrained(
            **_source(name),
            dtype=torch.float32,
            attn_implementation="sdpa",
            trust_remote_code=False,
        )
    return model.state_dict()


def forward_flops(config: PretrainedConfig, batch: int, length: int) -> int:
    """Operations of a backbone's forward pass over `batch` windows of `length` tokens.

    Counted as in `retro_lab.nn.flops`: matrix products and attention over every pair of positions.
    Reads no weights.
    """
    with torch.device("meta"):
        backbone = build_backbone(config)
    modules = (m for m in backbone.modules() if not isinstance(m, nn.Embedding))
    weights = [w for module in modules for w in module.parameters(recurse=False) if w.ndim == 2]
    size, tokens = sizes(config), batch * length
    attention = 4 * tokens * length * size.num_layers * size.num_heads * size.head_dim
    return 2 * tokens * sum(weight.numel() for weight in weights) + attention


def blocks_of(backbone: PreTrainedModel) -> nn.ModuleList:
    """The decoder's blocks, in order."""
    family = FAMILIES[cast(Any, backbone.config).model_type]
    return cast(nn.ModuleList, getattr(backbone.base_model, family.blocks))


def attention_of(backbone: PreTrainedModel, layer: int) -> nn.Module:
    """The self-attention of a layer, counted from 1."""
    family = FAMILIES[cast(Any, backbone.config).model_type]
    return getattr(blocks_of(backbone)[layer - 1], family.attention)


def _check_path(name: str) -> None:
    """Refuses a missing path, a hub name that can't be asked for, and the folder of a run."""
    check_name("recipe.backbone", name)
    path = Path(name).expanduser()
    if (path / "config.yaml").is_file() and not (path / "config.json").is_file():
        raise UserError(
            f"recipe.backbone={name} is a run of this project, not a Hugging Face model",
            fix="leave recipe.backbone out: recipe=retrofit grafts on the run's own baseline",
        )


def _source(name: str) -> dict[str, str]:
    """Arguments of `from_pretrained`."""
    file = gguf_file(name)
    if file is None:
        path = Path(name).expanduser()
        return {"pretrained_model_name_or_path": str(path) if path.exists() else name}
    for package in ("gguf", "accelerate"):
        _require(package, name)
    return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}


def _require(package: str, name: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UserError(
            f"recipe.backbone={name} is a GGUF file; reading it needs the package {package}",
            fix='pip install -e ".[gguf]"',
        )


@contextmanager
def _as_user_error(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        if is_refused(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(
            f"recipe.backbone={name} can't be loaded: {reason}",
            fix="check the name or folder, and the network if it is a name on the hub",
        ) from error
