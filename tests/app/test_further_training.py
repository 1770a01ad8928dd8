"""Contract: the plain model of a graft is its backbone trained further without retrieval, on as
many tokens as the graft; the same model is a run of its own that a user can ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from golden import Golden, results_of
from local_backbone import write_backbone
from torch import Tensor

from retro_lab.config.schema import EvaluateConfig, MemoryConfig, PlainConfig, PlainMatch
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.verdict import Outcome, verdict
from retro_lab.huggingface import GraftedRetro
from retro_lab.run.compared import compared_configs, compared_runs
from retro_lab.run.cost import training_flops
from retro_lab.run.directory import RunDirectory
from retro_lab.training.checkpoint import resumable_step
from retro_lab.training.publish import TOKENS_SEEN, last_figures

STEPS = 4  # of the graft, by debug=fast
BATCH_TOKENS = 2 * 256


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("models") / "Further-Llama")


def overrides(backbone: Path) -> list[str]:
    return [
        f"recipe.backbone={backbone}",
        *("tokenizer.vocab_size=4096", "cca.layers=[2]", "neighbours=k1", "eval.stride=256"),
        *("schedule.batch_size=2", "eval.random=false"),
    ]


@pytest.fixture(scope="module")
def grafted(golden: Golden, backbone: Path) -> RunDirectory:
    return golden.run(*overrides(backbone))


@pytest.fixture(scope="module")
def plain(grafted: RunDirectory) -> RunDirectory:
    return compared_runs(grafted.config())["plain"]


def bits(run: RunDirectory) -> dict[str, float]:
    return {
        name: score.nats for name, score in Results.load(run.results_file).metrics["test"].items()
    }


def test_it_reads_as_many_tokens_as_the_graft(grafted: RunDirectory, plain: RunDirectory) -> None:
    seen = [last_figures(run.path)[TOKENS_SEEN] for run in (grafted, plain)]
    assert seen[0] == seen[1]
    assert 0 < seen[0] <= STEPS * BATCH_TOKENS
    told = Results.load(grafted.results_file).plain
    assert told is not None
    assert (told.run, told.steps, told.training_tokens, told.lr, told.match) == (
        *(plain.path.name, STEPS, STEPS * BATCH_TOKENS, 1e-4, "tokens"),
    )


def test_all_of_its_weights_are_trained_from_the_backbones(
    plain: RunDirectory, grafted: RunDirectory, backbone: Path
) -> None:
    from transformers import AutoModelForCausalLM

    trained, frozen = plain.weights(), grafted.weights()
    for name, value in AutoModelForCausalLM.from_pretrained(backbone).state_dict().items():
        further = trained[f"backbone.{name}"]
        assert not torch.equal(further, value), name
        assert (further - value).abs().max() < 2 * STEPS * 1e-4  # the rate bounds AdamW's steps
        assert torch.equal(frozen[f"backbone.{name}"], value)


def test_a_gain_is_over_it_alone(golden: Golden, grafted: RunDirectory, backbone: Path) -> None:
    """Without it, the graft's lead on its backbone is no gain."""
    assert set(bits(grafted)) == {"baseline", "plain", "off", "on"}
    over = verdict(Results.load(grafted.results_file).leakage).findings[0]
    assert (over.a, over.b) == ("on", "plain")
    assert over.outcome is not Outcome.unmeasured
    without = PlainConfig(match=PlainMatch.none)
    asked = EvaluateConfig(run=str(grafted.path), eval=grafted.config().eval, plain=without)
    out = results_of(asked)
    assert set(bits(out)) == {"baseline", "off", "on"}
    found = verdict(Results.load(out.results_file).leakage)
    assert found.findings[0].outcome is Outcome.unmeasured
    assert "no plain model that has read as many training tokens" in found.sentences[0]
    assert set(compared_configs(golden.config(*overrides(backbone), "plain=none"))) == {"baseline"}


def test_asked_for_by_a_user_it_is_the_same_run(
    golden: Golden, grafted: RunDirectory, plain: RunDirectory, backbone: Path
) -> None:
    given = (*overrides(backbone), "retriever=none", f"recipe.further_steps={STEPS}")
    asked = golden.run(*given, "schedule.steps=9", "optim.lr=1")
    assert asked.path == plain.path
    assert bits(asked)["baseline"] == bits(grafted)["plain"]
    assert plain.path.name.startswith("further_llama-none-s1-")
    memory = MemoryConfig(name="suffix", experts=["suffix"], gate_tokens=2_000)
    with_memory = bits(results_of(EvaluateConfig(run=str(asked.path), memory=memory)))
    assert with_memory["memory"] < 0.8 * with_memory["baseline"]


class Cut(Exception):
    pass


@contextmanager
def cut_after_three_steps() -> Iterator[None]:
    """Training fails in its fourth step; a checkpoint follows the third."""
    steps, original = 0, GraftedRetro.token_nats

    def token_nats(model: GraftedRetro, *args: Tensor, **more: Tensor) -> Tensor:
        nonlocal steps
        steps += model.training
        if steps > 3:
            raise Cut
        return original(model, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraftedRetro, "token_nats", token_nats)
        yield


def test_it_resumes_to_the_last_bit(
    golden: Golden,
    plain: RunDirectory,
    backbone: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = [*overrides(backbone), "retriever=none", f"recipe.further_steps={STEPS}"]
    given.append(f"runs_dir={tmp_path}")
    with cut_after_three_steps(), pytest.raises(Cut):
        golden.run(*given)
    begun = RunDirectory.of(golden.config(*given))
    assert resumable_step(begun.path) == 3
    with caplog.at_level("INFO", logger="retro_lab"):
        assert golden.run(*given).path == begun.path
    assert f"resuming {begun.path} at step 3" in caplog.text
    whole = plain.weights()
    assert all(torch.equal(value, whole[name]) for name, value in begun.weights().items())
    assert last_figures(begun.path)[TOKENS_SEEN] == last_figures(plain.path)[TOKENS_SEEN]


def test_as_many_flops_are_more_steps(golden: Golden, backbone: Path) -> None:
    """What the graft adds to the backbone costs the plain model's extra steps."""
    config = golden.config(*overrides(backbone), "plain=flops", "recipe.steps=100")
    cost = {name: training_flops(run) for name, run in compared_configs(config).items()}
    steps = compared_configs(config)["plain"].schedule.steps
    assert cost["baseline"] == 0
    assert steps > 100
    assert cost["plain"] == pytest.approx(training_flops(config), abs=cost["plain"] / steps / 2)
