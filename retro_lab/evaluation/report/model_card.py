"""The model card of an exported run: what it is, what it scored, how to load it."""

from __future__ import annotations

from typing import Any

from ..records.results import Results

_CONDITIONS = {
    "on": "RETRO[ON], reads its neighbours",
    "off": "RETRO[OFF], the same model without them",
    "random": "RETRO[random], reads random neighbours",
    "filtered": "RETRO[filtered], leaky neighbours replaced",
    "baseline": "baseline, no retrieval parts",
}


def model_card(results: Results, name: str, licence: str) -> str:
    """README.md of a model folder, with the fields that the Hugging Face hub reads.

    Args:
        results: of the run.
        name: of the folder.
        licence: of the weights, as the hub spells it.
    """
    config, split = results.config, results.evaluation.split
    backbone = config["recipe"].get("backbone")
    retrieval = "on" in results.metrics[split]
    parts = [
        _header(licence, retrieval),
        f"# {name}\n\n{_what(config, backbone, retrieval)}",
        _figures(results, split),
        f"## Use\n\n```python\n{_code(name, retrieval)}\n```\n\n{_notes(config, retrieval)}",
        _training(results),
        f"## Licence\n\n{_licence(licence, backbone)}",
    ]
    return "\n\n".join(parts) + "\n"


def _header(licence: str, retrieval: bool) -> str:
    tags = ["retro", "retrieval-augmented"] if retrieval else ["retro"]
    lines = [f"license: {licence}", "library_name: transformers", "pipeline_tag: text-generation"]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _what(config: dict[str, Any], backbone: str | None, retrieval: bool) -> str:
    corpus = config["corpus"]["name"]
    base = "a decoder" if backbone is None else f"`{_short(backbone)}`"
    if not retrieval:
        origin = f"trained on the corpus `{corpus}`" if backbone is None else "as it was published"
        return f"A language model without retrieval, {base}, {origin}: a baseline of retro_lab."
    return (
        f"RETRO (Borgeaud et al. 2021, arXiv 2112.04426) on {base}: it reads "
        f"{config['neighbours']['k']} neighbours of each chunk of "
        f"{config['chunking']['chunk_size']} tokens. Trained on the corpus `{corpus}` with "
        f"neighbours found by `{config['retriever']['name']}`."
    )


def _figures(results: Results, split: str) -> str:
    rows = ["| condition | nats/token | perplexity | bits/byte |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {_CONDITIONS.get(name, name)} | {score.loss:.4f} | {score.ppl:.2f} | {score.bpb:.4f} |"
        for name, score in results.metrics[split].items()
    ]
    first = next(iter(results.metrics[split].values()))
    evaluation = results.evaluation
    how = (
        f"{first.tokens:,} tokens, {first.bytes:,} bytes of the {split} split; windows of "
        f"{evaluation.window} tokens every {evaluation.stride}. Every condition scores the same "
        "tokens."
    )
    return "## Figures\n\n" + "\n".join(rows) + "\n\n" + how


def _code(name: str, retrieval: bool) -> str:
    lines = [
        "import retro_lab.huggingface  # makes transformers know RETRO",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
        f'model = AutoModelForCausalLM.from_pretrained("{name}")',
    ]
    if retrieval:
        lines.append("model.retriever = search  # tokens [B, M] of a chunk -> neighbours [B, K, R]")
    lines += [
        'prompt = tokenizer(tokenizer.bos_token + "import os", return_tensors="pt")',
        "text = model.generate(prompt.input_ids, max_new_tokens=64, do_sample=True)",
        "print(tokenizer.decode(text[0], skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def _notes(config: dict[str, Any], retrieval: bool) -> str:
    start = "Every document was trained with the boundary token before it, so a prompt needs it."
    if not retrieval:
        return start
    size = config["chunking"]["chunk_size"]
    length = size * (1 + config["chunking"]["continuation_chunks"])
    return (
        f"{start} `search` takes the {size} tokens of a finished chunk and gives the {length} "
        "tokens of each neighbour, its chunk and what follows it; missing ones are filled with "
        "`model.config.pad_token_id`. Without a retriever and without `neighbour_ids` the model "
        "reads nothing: that is RETRO[OFF]. The database is not part of this folder."
    )


def _training(results: Results) -> str:
    config = results.config
    keys = ("model", "recipe", "chunking", "neighbours", "optim", "schedule")
    lines = [f"{key}: {_settings(config[key])}" for key in keys if key in config]
    where = (
        f"corpus: {config['corpus']['name']}, seed: {config['seed']}, run: {results.run_key[:8]}"
    )
    return "## Recipe\n\n```\n" + "\n".join([where, *lines]) + "\n```"


def _settings(group: dict[str, Any]) -> str:
    def text(name: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"{name}=({_settings(value)})"
        return f"{name}={_short(value) if name == 'backbone' and value else value}"

    return ", ".join(text(name, value) for name, value in group.items())


def _licence(licence: str, backbone: str | None) -> str:
    under = "" if backbone is None else f" It contains `{_short(backbone)}`, whose licence holds."
    stated = "not stated" if licence == "other" else licence
    return f"Weights: {stated}.{under} Mind the licence of the text it was trained on."


def _short(backbone: str) -> str:
    """A local folder by its last part: where it lay is nobody's business."""
    from pathlib import Path

    path = Path(backbone).expanduser()
    return path.name if path.is_absolute() or path.exists() else backbone
