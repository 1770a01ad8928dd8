"""Contract of the verdict: a gain needs both the plain model of as many training tokens and random
neighbours beaten, with whole intervals below zero; every other case says what was not shown."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from retro_lab.evaluation.measure.leakage import Copies, CurvePoint, Difference, Leakage
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.report.verdict import Outcome, outcome_of, short_verdict, verdict

Interval = tuple[float, float] | None
BETTER, WORSE, UNCLEAR, NONE = (-0.3, -0.1), (0.1, 0.3), (-0.1, 0.3), None
KINDS: dict[Outcome, Interval] = {
    Outcome.better: BETTER,
    Outcome.worse: WORSE,
    Outcome.unclear: UNCLEAR,
    Outcome.unmeasured: NONE,
}


def difference(b: str, alpha: float, interval: Interval) -> Difference:
    low, high = interval or (None, None)
    delta = None if low is None or high is None else (low + high) / 2
    return Difference("on", b, alpha, delta, low, high, 1234)


def leakage(
    plain: Interval, random: Interval, filtered: tuple[Interval, Interval] = (NONE, NONE)
) -> Leakage:
    differences = [
        difference("plain", 1.0, plain),
        difference("random", 1.0, random),
        difference("plain", 0.125, filtered[0]),
        difference("random", 0.125, filtered[1]),
    ]
    return Leakage("own_neighbours", [0.125, 1.0], Bootstrap(), {}, differences, ["A note."])


@pytest.mark.parametrize(("plain", "random"), itertools.product(KINDS, KINDS))
def test_a_gain_needs_both_controls_beaten(plain: Outcome, random: Outcome) -> None:
    found = verdict(leakage(KINDS[plain], KINDS[random]))
    pair = {plain, random}
    if pair & {Outcome.worse, Outcome.unclear}:
        expected = False
    else:
        expected = None if Outcome.unmeasured in pair else True
    assert found.gain is expected
    assert [f.outcome for f in found.findings[:2]] == [plain, random]
    shown = found.sentences[0].startswith("Retrieval helps")
    assert shown is (expected is True)
    assert "not shown" in found.sentences[0] or shown


@pytest.mark.parametrize(("plain", "random"), itertools.product(KINDS, KINDS))
def test_a_terminal_gets_three_lines_that_say_the_same(plain: Outcome, random: Outcome) -> None:
    found = leakage(KINDS[plain], KINDS[random], (KINDS[random], KINDS[plain]))
    gain, without, support = short_verdict(found, {"xz": 1.849, "ngram": 1.902})
    assert gain.startswith("Retrieval helps: ") is (verdict(found).gain is True)
    assert ("it helps" in without) is (verdict(found).gain_without_leakage is True)
    assert "1 seed" in support
    assert all(len(line) <= 80 for line in (gain, without, support))
    if Outcome.unclear in (plain, random) and Outcome.worse not in (plain, random):
        assert f"({UNCLEAR[0]:+.4f} to {UNCLEAR[1]:+.4f})" in gain  # what stands in the way


@pytest.mark.parametrize("random", KINDS.values())
def test_a_gain_that_random_neighbours_give_too_is_told_apart(random: Interval) -> None:
    found = leakage(BETTER, BETTER)
    own = replace(difference("plain", 1.0, random), a="random")
    told = replace(found, differences=[*found.differences, own])
    sentences = " ".join(verdict(told).sentences)
    assert ("Random neighbours beat the plain model too" in sentences) is (random == BETTER)
    lines = short_verdict(told)
    assert ("But random neighbours help too" in " ".join(lines)) is (random == BETTER)
    assert len(lines) == (4 if random == BETTER else 3)


@pytest.mark.parametrize("interval", [(-0.1, 0.0), (0.0, 0.1), (0.0, 0.0)])
def test_an_interval_that_touches_zero_shows_nothing(interval: Interval) -> None:
    assert outcome_of(difference("baseline", 1.0, interval)) is Outcome.unclear
    assert verdict(leakage(interval, BETTER)).gain is False


@pytest.mark.parametrize(
    ("filtered", "expected", "words"),
    [
        ((BETTER, BETTER), True, "not only leakage"),
        ((UNCLEAR, BETTER), False, "more than leakage was not shown"),
        ((BETTER, WORSE), False, "more than leakage was not shown"),
        ((NONE, NONE), None, "more than leakage was not shown"),
    ],
)
def test_a_gain_is_more_than_leakage_only_where_nothing_can_leak(
    filtered: tuple[Interval, Interval], expected: bool | None, words: str
) -> None:
    found = verdict(leakage(BETTER, BETTER, filtered))
    assert found.gain is True
    assert found.gain_without_leakage is expected
    assert words in found.sentences[1]
    assert "0.125" in found.sentences[1]


@pytest.mark.parametrize("baseline", [BETTER, UNCLEAR])
def test_a_figure_that_was_not_asked_for_is_not_said_to_lack_an_interval(
    baseline: Interval,
) -> None:
    unasked = replace(leakage(baseline, BETTER), alphas=[0.5, 1.0])
    sentence = verdict(unasked).sentences[1]
    assert "no figure was asked for (eval.alphas)" in sentence
    assert "no interval" not in sentence
    assert "no interval" in verdict(leakage(baseline, BETTER)).sentences[1]


def test_without_a_gain_the_filtered_words_claim_none() -> None:
    found = verdict(leakage(UNCLEAR, BETTER, (UNCLEAR, BETTER)))
    assert found.sentences[1].startswith("Nor was one shown")


@pytest.mark.parametrize(
    ("random", "expected"),
    [((-0.0004, 0.0006), True), ((-0.1, 0.2), False), ((-0.0006, -0.0002), False), (NONE, None)],
)
def test_a_score_that_neighbours_do_not_move_is_flagged(
    random: Interval, expected: bool | None
) -> None:
    found = verdict(leakage(BETTER, random))
    assert found.ignores_neighbours is expected
    flagged = any("does not move" in sentence for sentence in found.sentences)
    assert flagged is (expected is True)


@pytest.mark.parametrize(
    ("random", "shuffled", "expected"),
    [
        ((-0.0004, 0.0006), (-0.0002, 0.0004), True),
        ((-0.0004, 0.0006), (-0.3, -0.1), False),
        ((-0.3, -0.1), (-0.0002, 0.0004), False),
        (NONE, (-0.0002, 0.0004), True),
        (NONE, NONE, None),
    ],
)
def test_no_control_may_move_the_score_of_a_run_that_is_flagged(
    random: Interval, shuffled: Interval, expected: bool | None
) -> None:
    base = leakage(BETTER, random)
    found = verdict(
        replace(base, differences=[*base.differences, difference("shuffled", 1, shuffled)])
    )
    assert found.ignores_neighbours is expected
    flagged = [sentence for sentence in found.sentences if "does not move" in sentence]
    assert bool(flagged) is (expected is True)
    if flagged:
        assert "neighbours of other documents' chunks" in flagged[0]
        assert ("random ones" in flagged[0] or "random neighbours" in flagged[0]) is (
            random != NONE
        )


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (BETTER, "knew the text to come would give more"),
        (WORSE, "do not help this model"),
        (UNCLEAR, "no clear gain"),
        (NONE, None),
    ],
)
def test_the_oracle_says_what_a_better_search_could_give(
    interval: Interval, words: str | None
) -> None:
    base = leakage(BETTER, BETTER)
    oracle = replace(difference("x", 1.0, interval), a="oracle", b="on")
    text = " ".join(verdict(replace(base, differences=[*base.differences, oracle])).sentences)
    assert ("oracle minus" in text) is (words is not None)
    assert words is None or words in text


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (BETTER, "a gain over the plain model is left"),
        (WORSE, "the model is worse than the plain model"),
        (UNCLEAR, "no clear gain over the plain model is left"),
        (NONE, None),
    ],
)
def test_filtered_neighbours_say_what_is_left_of_the_gain(
    interval: Interval, words: str | None
) -> None:
    base = leakage(BETTER, BETTER)
    left = replace(difference("plain", 1.0, interval), a="filtered")
    found = verdict(replace(base, differences=[*base.differences, left]), max_run=8)
    sentences = [text for text in found.sentences if "a run of 8 or more tokens" in text]
    assert len(sentences) == (words is not None)
    for text in sentences:
        assert f"{words}: RETRO[filtered] minus plain" in text
        assert "interval" in text
        assert "1,234 documents" in text


def test_sentences_give_interval_documents_and_notes() -> None:
    found = verdict(leakage(BETTER, WORSE))
    text = " ".join(found.sentences)
    assert "-0.2000 bits per byte, interval -0.3000 to -0.1000, 1,234 documents" in text
    assert "worse than random neighbours" in text
    assert found.sentences[-1] == "A note."


@pytest.mark.parametrize(
    ("random", "failed"), [(BETTER, False), (WORSE, True), (UNCLEAR, True), (NONE, None)]
)
def test_the_control_fails_if_random_neighbours_do_as_well(
    random: Interval, failed: bool | None
) -> None:
    found = verdict(leakage(BETTER, random))
    assert found.control_failed is failed
    assert bool(found.controls) is (failed is not None)
    assert set(found.controls) <= set(found.sentences), "the terminal says them too"


def test_a_pair_that_was_never_scored_is_unmeasured() -> None:
    empty = Leakage(None, [1.0], Bootstrap(), {}, [])
    found = verdict(empty)
    assert (found.gain, found.gain_without_leakage, found.ignores_neighbours) == (None, None, None)
    assert (found.gate, found.off_is_baseline) == (None, None)
    assert "no plain model that has read as many training tokens" in found.sentences[0]


@pytest.mark.parametrize(
    ("baseline", "random", "off", "gate", "words"),
    [
        (BETTER, BETTER, BETTER, True, None),
        (WORSE, BETTER, BETTER, True, "is no gain (-0.2000"),
        (UNCLEAR, BETTER, BETTER, True, "is no gain (-0.2000"),
        (BETTER, UNCLEAR, BETTER, False, None),
        (BETTER, BETTER, WORSE, False, None),
        (BETTER, BETTER, NONE, None, None),
    ],
)
def test_copying_that_is_no_gain_is_said_to_be_none(
    baseline: Interval, random: Interval, off: Interval, gate: bool | None, words: str | None
) -> None:
    measured = leakage(baseline, random)
    measured.differences.append(difference("off", 1.0, off))
    found = verdict(measured)
    assert found.gate is gate
    text = " ".join(found.sentences)
    assert ("Copying has emerged" in text) is (words is not None)
    assert words is None or words in text


@pytest.mark.parametrize(
    ("delta", "interval", "same"),
    [
        *((0.0, (0.0, 0.0), True), (5e-10, (0.0, 1e-9), False), (0.0, (-1e-9, 1e-9), False)),
        *((-0.2, BETTER, False), (0.0, NONE, True), (-0.2, NONE, False)),  # none: few documents
    ],
)
def test_an_off_that_is_not_the_baseline_is_named(
    delta: float, interval: Interval, same: bool
) -> None:
    measured = leakage(BETTER, BETTER)
    low, high = interval or (None, None)
    measured.differences.append(Difference("off", "baseline", 1.0, delta, low, high, 1234))
    found = verdict(measured)
    assert found.off_is_baseline is same
    assert any("no longer the baseline" in sentence for sentence in found.sentences) is not same


@pytest.mark.parametrize("other", ["baseline", "off"])
def test_no_gain_is_claimed_over_what_has_read_fewer_tokens(other: str) -> None:
    """Without a plain model there is no gain, however far RETRO is ahead of its baseline."""
    base = leakage(BETTER, BETTER)
    moved = [replace(d, b=other) if d.b == "plain" else d for d in base.differences]
    found = verdict(replace(base, differences=moved))
    assert found.gain is None
    text = " ".join(found.sentences)
    assert "beats" not in text
    assert "plain=tokens" in text


def with_copies(share: float | None) -> Leakage:
    points = [CurvePoint(1.0, 2.0, 9.0, 100, 900, 1000, 20)]
    copies = Copies(30, 150, 12, 25, "plain", share)
    return replace(leakage(BETTER, BETTER), curves={"on": points}, copies=copies)


def test_what_is_saved_on_near_copies_is_said_with_their_documents() -> None:
    [told] = [s for s in verdict(with_copies(0.654)).sentences if "r(C) > 0.875" in s]
    assert "65 % of what RETRO[ON] saves over the plain model" in told
    assert "30 chunks (15.0 % of the bytes; in 12 documents, 25 of them in three)" in told
    [nothing_saved] = [s for s in verdict(with_copies(None)).sentences if "r(C) > 0.875" in s]
    assert nothing_saved.startswith("NOTE: 30 chunks")


@pytest.mark.parametrize(
    ("xz", "words"),
    [(1.5, "a model this small knows less of this text than a compressor"), (2.5, "knows more")],
)
def test_compressors_stand_beside_every_verdict(xz: float, words: str) -> None:
    sentences = verdict(with_copies(None), compressors={"xz": xz, "ngram": 2.75}).sentences
    [told] = [s for s in sentences if "same training text" in s]
    assert f"xz {xz:.3f} and a byte n-gram 2.750 bits per byte (RETRO[ON] 2.000)" in told
    assert words in told


def test_one_seed_stands_behind_a_run() -> None:
    assert any("1 seed, 1,234 documents" in s for s in verdict(leakage(BETTER, BETTER)).sentences)


@pytest.mark.parametrize(
    ("without", "words"), [(-0.01, "95 % of the gain"), (0.1, "All of the gain"), (-0.2, "0 % of")]
)
def test_the_pointers_part_is_what_is_lost_when_it_is_switched_off(
    without: float, words: str
) -> None:
    base = with_copies(None)
    off = Difference("on_without_pointer", "plain", 1.0, without, without, without, 1234)
    curves = base.curves | {"on_without_pointer": base.curves["on"]}
    told = replace(base, curves=curves, differences=[*base.differences, off])
    assert any(f"{words}" in s and "pointer" in s for s in verdict(told).sentences)
