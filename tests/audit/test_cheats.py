"""Contract: each cheat fails the check of its kind, and an honest scorer fails none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scorers
import torch
from drawn_texts import as_texts, sentences
from local_backbone import write_backbone

from retro_lab.audit.audit import Audit, Given, Settings, audit
from retro_lab.audit.hugging_face import HuggingFaceScorer, open_model
from retro_lab.audit.probes import score_all
from retro_lab.audit.scorer import Subject, import_scorer
from retro_lab.audit.scores import Scores
from retro_lab.audit.texts import Text
from retro_lab.config.errors import UserError

TEXTS = as_texts(sentences(3, 0))
SETTINGS = Settings(sample=3)


def audited(scorer: Any, *, learns: bool = False, texts: list[Text] = TEXTS, **given: Any) -> Audit:
    subject = scorer if isinstance(scorer, Subject) else Subject(scorer.__name__, scorer, learns)
    found = Given(subject.name, "test", texts, given.get("scores"), subject, given.get("train"))
    return audit(found, replace(SETTINGS, learns=learns))


def outcomes(done: Audit) -> dict[str, bool | None]:
    return {check.name: check.passed for check in done.checks}


def figure(done: Audit, name: str) -> float | None:
    return next(check.figure for check in done.checks if check.name == name)


@pytest.mark.parametrize(
    ("scorer", "learns"),
    [(scorers.Honest, False), (scorers.KnnLm, False), (scorers.Learner, True)],
)
def test_honest_scorers_pass(scorer: type, learns: bool) -> None:
    texts = TEXTS if scorer is not scorers.KnnLm else TEXTS[:1]
    train = [b"nothing that the text has in common"]
    done = audited(scorer, learns=learns, texts=texts, train=train)
    assert outcomes(done) == dict.fromkeys(outcomes(done), True)
    assert not done.failed


@pytest.mark.parametrize(
    ("scorer", "learns", "check"),
    [
        (scorers.Unnormalised, False, "normalised"),
        (scorers.UnnormalisedUnasked, False, "normalised"),
        (scorers.LooksAhead, False, "causal"),
        (scorers.LearnsFirst, True, "before_learning"),
        (scorers.TwoPasses, True, "one_pass"),
        (scorers.CountsTwice, False, "bytes"),
    ],
)
def test_a_cheat_fails_the_check_of_its_kind(scorer: type, learns: bool, check: str) -> None:
    done = audited(scorer, learns=learns)
    assert outcomes(done)[check] is False
    assert done.failed


def test_only_the_check_of_its_kind_sees_a_plain_cheat() -> None:
    """What is wrong is told apart: a cheat that does nothing else fails nothing else."""
    for scorer, learns, check in (
        (scorers.Unnormalised, False, "normalised"),
        (scorers.LearnsFirst, True, "before_learning"),
        (scorers.CountsTwice, False, "bytes"),
    ):
        done = audited(scorer, learns=learns)
        assert [name for name, passed in outcomes(done).items() if passed is False] == [check]


def test_a_scorer_that_remembers_what_its_kind_was_shown_fails_one_pass() -> None:
    """Its first instance was honest; a fresh one is not fresh."""
    done = audited(scorers.Remembers)
    assert outcomes(done)["one_pass"] is False


def test_a_learner_must_say_so() -> None:
    done = audited(scorers.Learner)
    found = next(check for check in done.checks if check.name == "one_pass")
    assert found.passed is False
    assert "learns=on" in found.words


def test_reported_scores_are_compared_with_the_scorers_own() -> None:
    """Scores of a second pass are not those of a scorer that has seen nothing."""
    second = scorers.Learner()
    for text in TEXTS:
        second.score(text.text)
    reported = score_all(Subject("second pass", lambda: second), TEXTS)
    done = audited(scorers.Learner, learns=True, scores=Scores(reported))
    assert outcomes(done)["one_pass"] is False
    first = score_all(Subject("first", scorers.Learner, True), TEXTS)
    done = audited(scorers.Learner, learns=True, scores=Scores(first))
    assert outcomes(done)["one_pass"] is True


def test_without_a_distribution_nothing_is_claimed() -> None:
    done = audited(scorers.Unasked)
    assert outcomes(done)["normalised"] is None
    assert outcomes(done)["before_learning"] is None
    total = figure(done, "normalised")
    assert total is not None
    assert 0.2 < total <= 1, "the sum over the tokens that were tried bounds it from below"


def test_a_function_is_a_scorer() -> None:
    done = audited(import_scorer("scorers:letters", learns=False))
    assert outcomes(done)["causal"] is True
    assert done.bpb == pytest.approx(8)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(0, 1)], "rows of 2 values"),
        ([(0, 1, 2.0), (1, 2, 2.0, 7)], "rows of 3 and 4 values"),
        ([(0, 1, float("nan"))], "no number"),
        ([(0, "one", 2.0)], "failed in score: ValueError"),
        (None, "failed in score: TypeError"),
    ],
)
def test_a_scorer_that_breaks_its_contract_is_told(rows: Any, told: str) -> None:
    class Broken:
        def score(self, text: str) -> Any:
            return rows

    with pytest.raises(UserError, match=told):
        audited(Broken)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("model"), "gpt2", n_positions=48)


def test_a_hugging_face_model_passes(folder: Path) -> None:
    """Documents are longer than its window of 48 tokens."""
    assert min(len(text.raw) for text in TEXTS) > 48
    done = audited(open_model(str(folder)))
    assert outcomes(done) == {**dict.fromkeys(outcomes(done), True), "overlap": None}
    assert done.tokens == done.bytes, "its tokens are bytes"


def test_a_model_that_sees_the_target_fails(folder: Path) -> None:
    """Attention without a causal mask is found, whatever the model."""
    subject = open_model(str(folder))
    scorer = subject.fresh()
    assert isinstance(scorer, HuggingFaceScorer)
    model = scorer.model

    class Both:
        device = model.device

        def __call__(self, input_ids: torch.Tensor) -> Any:
            ahead = model(input_ids=input_ids.flip(1))
            ahead.logits = ahead.logits.flip(1)
            return ahead

    scorer.model = Both()
    assert outcomes(audited(subject))["causal"] is False


def test_lm_evals_own_model_class_passes(folder: Path) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    model = huggingface.HFLM(pretrained=str(folder), device="cpu", batch_size=1)

    class Harness:
        def distribution(self, tokens: list[int]) -> Any:
            read = torch.tensor([[model.prefix_token_id, *tokens]])[:, -48:]
            return model._model_call(read)[0, -1].double().log_softmax(-1).numpy()

        def score(self, text: str) -> list[tuple[int, int, float, int]]:
            ids = model.tok_encode(text, add_special_tokens=False)
            logs = [float(self.distribution(ids[:n])[token]) for n, token in enumerate(ids)]
            return [(n, n + 1, -log, ids[n]) for n, log in enumerate(logs)]

    short = as_texts([text.text[:20] for text in TEXTS[:1]])
    done = audited(Harness, texts=short)
    assert outcomes(done) == {**dict.fromkeys(outcomes(done), True), "overlap": None}
    totals = model.loglikelihood_rolling([_request(short[0].text)], disable_tqdm=True)
    assert done.nats == pytest.approx(-totals[0], rel=1e-5), "lm-eval scores the same"


def _request(text: str) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood_rolling", {}, (text,), 0)
