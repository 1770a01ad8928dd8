"""Contract: a document's split follows from its id, group, file or list, and never from others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retro_lab.config.errors import UserError
from retro_lab.config.schema import SplitConfig
from retro_lab.text.splits import SPLITS, assign_splits, draw, id_list_digests

IDS = [f"doc-{i}" for i in range(400)]


def splits(ids=IDS, given=None, known=None, **options):
    config = SplitConfig(**options)
    codes = assign_splits(
        ids, given or [None] * len(ids), config, set(ids if known is None else known)
    )
    return [SPLITS[code] for code in codes]


def test_draw_is_fixed_for_ever():
    # First digits of `printf split:doc-0 | sha256sum`; a change would move users' documents.
    assert draw("doc-0") == pytest.approx(int("b892d884ac846a57", 16) / 2**64, abs=1e-15)


def test_shares_are_about_as_asked():
    found = splits(validation=0.25, test=0.25)
    counts = [found.count(split) / len(IDS) for split in SPLITS]
    assert counts == pytest.approx([0.5, 0.25, 0.25], abs=0.08)


def test_documents_do_not_move_when_others_come_or_shares_grow():
    few, many = splits(IDS[:100]), splits(IDS)
    assert many[:100] == few
    larger = splits(test=0.3)
    assert all(b == "test" for a, b in zip(many, larger, strict=True) if a == "test")


@given(st.permutations(IDS[:60]))
def test_order_does_not_matter(shuffled):
    kept = {"validation": 0.3, "test": 0.3}
    expected = dict(zip(IDS[:60], splits(IDS[:60], **kept), strict=True))
    assert dict(zip(shuffled, splits(shuffled, **kept), strict=True)) == expected


def test_groups_stay_together():
    ids = [f"v{version}/page-{page}" for version in range(5) for page in range(60)]
    found = splits(ids, group_pattern=r"/(.*)$")
    by_page = [set(found[page::60]) for page in range(60)]
    assert all(len(group) == 1 for group in by_page)
    assert set().union(*by_page) == set(SPLITS)
    # A document that the pattern doesn't match is a group of its own.
    assert splits([*ids, "lonely"], group_pattern=r"/(.*)$")[-1] == splits([*IDS, "lonely"])[-1]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "not a regular expression"), ("doc", "has no group"), ("(zzz)", "matches none of the")],
)
def test_bad_patterns(pattern, message):
    with pytest.raises(UserError, match=f"corpus.split.group_pattern=.*{message}"):
        splits(group_pattern=pattern)


def test_files_given_for_a_split_end_its_draw():
    given_splits = [None] * 300 + ["test"] * 100
    found = splits(given=given_splits, test=0.5)
    assert found[300:] == ["test"] * 100
    assert set(found[:300]) == {"train", "validation"}


def test_too_small_names_the_setting():
    message = r"0 test documents of 10 \(corpus.split.test=0.0\); every split needs at least 2"
    with pytest.raises(UserError, match=message) as caught:
        splits(IDS[:10], validation=0.5, test=0.0)
    assert "raise corpus.split.test" in (caught.value.fix or "")


@pytest.fixture
def lists(tmp_path):
    def write(train, validation, test):
        paths = {}
        for split, names in zip(SPLITS, (train, validation, test), strict=True):
            path = tmp_path / f"{split}.txt"
            path.write_text("".join(f"{name}\n" for name in names))
            paths[f"{split}_ids"] = str(path)
        return paths

    return write


def test_lists_replace_the_draw(lists):
    paths = lists(["b", "a"], ["c", "d"], ["f", "e"])
    found = splits(list("abcdef"), **paths)
    assert found == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    # A listed document that max_bytes left out is no mistake.
    assert splits(list("abcdef"), known="abcdefg", **lists("gba", "cd", "ef")) == found


def test_lists_that_do_not_fit(lists):
    ids = list("abcdef")
    cases = [
        (("ab", "cdx", "ef"), "validation.txt, line 3: the corpus has no document 'x'"),
        (
            ("ab", "cd", "efa"),
            r"test.txt, line 3: document 'a' is already listed \(train.txt, line 1\)",
        ),
        (("ab", "cd", "e"), "1 of 6 documents are in none of the lists .* 'f' the first"),
        (("abc", "d", "ef"), "1 validation document of 6; every split"),
    ]
    for names, message in cases:
        with pytest.raises(UserError, match=message):
            splits(ids, **lists(*names))
    with pytest.raises(UserError, match="are both set"):
        splits(ids, given=["test"] * 6, **lists("ab", "cd", "ef"))
    with pytest.raises(UserError, match=r"corpus.split.test_ids=gone.txt: No such file"):
        splits(ids, **lists("ab", "cd", "ef") | {"test_ids": "gone.txt"})


def test_lists_are_inputs(lists):
    first = id_list_digests(SplitConfig(**lists("ab", "cd", "ef")))
    assert sorted(first) == ["split.test_ids", "split.train_ids", "split.validation_ids"]
    assert id_list_digests(SplitConfig(**lists("ba", "cd", "ef"))) != first
    assert id_list_digests(SplitConfig()) == {}


def test_codes_are_places_in_splits():
    codes = assign_splits(IDS, [None] * 400, SplitConfig(), set(IDS))
    assert codes.dtype == np.uint8
    assert [SPLITS[code] for code in codes] == splits()
