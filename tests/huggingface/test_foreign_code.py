"""Contract: a model, tokenizer or data set that brings Python code along is refused in one message;
nobody is asked whether to run it, and none of it runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    DenseNeuralRetrieverConfig,
    HfCorpusConfig,
    SentenceTransformerConfig,
)
from retro_lab.huggingface.backbones import load_weights, read_config
from retro_lab.retrieval.embed.sentence_transformer import load_encoder
from retro_lab.retrieval.search.dense_neural_rerank import load_scorer
from retro_lab.text.readers.hub import HubReader
from retro_lab.text.tokenizers.huggingface import load_source

CODE = """
from pathlib import Path
Path(__file__).with_name("it-ran").touch()
Path({mark!r}).touch()
class Custom: pass
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder whose every class is in a file of its own, and a user who says yes to all."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    code = CODE.format(mark=str(tmp_path / "it-ran"))
    (folder / "custom.py").write_text(code)
    shutil.copy(folder / "custom.py", folder / "stranger.py")
    kinds = ["AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer"]
    kinds += ["AutoModelForSequenceClassification"]
    classes = dict.fromkeys(kinds, "custom.Custom")
    tokenizer = {"tokenizer_class": "Custom", "auto_map": {"AutoTokenizer": ["custom.Custom"] * 2}}
    (folder / "config.json").write_text(json.dumps({"model_type": "custom", "auto_map": classes}))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return folder


def encoder(folder: Path) -> object:
    return load_encoder(folder, SentenceTransformerConfig(model=str(folder)), "embedder.model")


def with_modules(folder: Path) -> object:
    modules = [{"idx": 0, "name": "0", "path": "", "type": "custom.Custom"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return encoder(folder)


def scorer(kind: str) -> Callable[[Path], object]:
    return lambda f: load_scorer(DenseNeuralRetrieverConfig(scorer=kind, model=str(f)))


def colbert(folder: Path) -> object:
    kind = {"model_type": "MultiVectorEncoder"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(kind))
    return scorer("late_interaction")(folder)


def dataset(path: Path) -> object:
    return HubReader(HfCorpusConfig(path=str(path))).input_digest()


LOADERS: dict[str, Callable[[Path], object]] = {
    "tokenizer": lambda folder: load_source(str(folder)),
    "backbone": lambda folder: read_config(str(folder)),
    "weights": lambda folder: load_weights(str(folder)),
    "embedder": encoder,
    "modules": with_modules,
    "cross encoder": scorer("cross_encoder"),
    "late interaction": scorer("late_interaction"),
    "colbert": colbert,
    "dataset": dataset,
    "script": lambda folder: dataset(folder / "stranger.py"),
}


@pytest.mark.parametrize("name", LOADERS)
def test_code_of_strangers_is_not_run(name: str, stranger: Path) -> None:
    with pytest.raises(UserError):
        LOADERS[name](stranger)
    assert not list(stranger.parent.rglob("it-ran"))
