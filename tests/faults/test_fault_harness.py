"""Contract: the harness of faults strikes where it says, and sees what is broken on purpose."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import orjson
import pytest
import torch
from bit_flips import Flip, judge_flip
from concurrent_starts import judge_starts
from fault_children import Child, Death, Ended, dying
from fault_counts import Counts, ending, table
from fault_world import Phase, differences, fingerprint
from flip_targets import TARGETS
from kills import broken_checkpoints
from mutated_corpora import mutated


def run_with_checkpoint(folder: Path, step: int, lines: int) -> Path:
    """A run whose curves have so many lines of training, and whose checkpoint is of a step."""
    run = folder / "runs" / "a-run"
    (run / "checkpoints").mkdir(parents=True)
    curves = [orjson.dumps({"step": i + 1, "train/loss": 1.0}) + b"\n" for i in range(lines)]
    (run / "metrics.jsonl").write_bytes(b"".join(curves))
    checkpoint = {"global_step": step, "state_dict": {"w": torch.ones(2)}}
    torch.save(checkpoint, run / "checkpoints/last.ckpt")
    return run


def write_two(folder: Path) -> int:
    (folder / "a").write_text("whole")
    (folder / "b").write_text("whole")
    return 0


@pytest.mark.parametrize(
    ("kind", "code"), [("kill", -signal.SIGKILL), ("term", -signal.SIGTERM), ("exit", 41)]
)
def test_a_child_dies_just_before_the_change_it_was_told(
    kind: str, code: int, tmp_path: Path
) -> None:
    folder, note = tmp_path / "at-work", tmp_path / "note"
    folder.mkdir()

    def work() -> int:
        dying([folder], Death(kind, 2), note)()
        return write_two(folder)

    assert Child(work).wait().code == code
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert note.read_text() == str(folder / "b")


def test_a_torn_write_leaves_a_part_of_the_file(tmp_path: Path) -> None:
    folder, note = tmp_path / "at-work", tmp_path / "note"
    folder.mkdir()

    def work() -> int:
        dying([folder], Death("torn", 1, 3), note)()
        return write_two(folder)

    assert Child(work).wait().code == -signal.SIGXFSZ
    assert (folder / "a").read_text() == "who"


def test_a_child_ends_as_a_program_would() -> None:
    def leave() -> int:
        raise SystemExit(2)

    def fail() -> int:
        print("before")
        raise KeyError("nobody took this")

    assert Child(lambda: None).wait() == Ended(0, "")
    assert Child(leave).wait().code == 2
    failed = Child(fail).wait()
    assert (failed.code, failed.has_traceback) == (1, True)
    assert "before" in failed.said


def test_the_whole_traceback_of_a_child_is_kept() -> None:
    def fail() -> int:
        print("before")
        raise KeyError("nobody took this")

    kept = ending(Child(fail).wait().said)
    assert "before" not in kept
    assert "in fail" in kept
    assert kept.endswith("KeyError: 'nobody took this'")
    assert ending("first\nerror: no traceback\n\n") == "error: no traceback"


def test_a_flip_changes_one_bit_and_is_named_where_something_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4))
    flip = Flip(TARGETS[0], Path("file"), byte=2, bit=3)
    flip.strike(tmp_path)
    assert (tmp_path / "file").read_bytes() == bytes([0, 0, 8, 0])
    counts = Counts("flips")
    judge_flip(0, "\nused: as before", " as before", flip, counts)
    judge_flip(2, "refused", " as before", flip, counts)
    assert not counts.findings
    judge_flip(0, "\nused: otherwise", " as before", flip, counts)
    judge_flip(
        1, "Traceback (most recent call last):\n  deep\nKeyError", " as before", flip, counts
    )
    assert (counts.tried, counts.wrong, counts.tracebacks) == (4, 1, 1)
    assert all("bit 3 of byte 2 of file" in finding for finding in counts.findings)
    assert "deep" in counts.findings[1]


def test_a_child_that_hangs_is_ended() -> None:
    def wait_for_ever() -> int:
        signal.pause()
        return 0

    assert Child(wait_for_ever).wait(patience=0.1).code is None


def test_a_lost_checkpoint_is_seen(tmp_path: Path) -> None:
    run = run_with_checkpoint(tmp_path, step=3, lines=4)
    assert broken_checkpoints(tmp_path) == []
    path = run / "checkpoints/last.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in broken_checkpoints(tmp_path)[0]
    path.write_bytes(b"")
    assert "damaged" in broken_checkpoints(tmp_path)[0]
    path.unlink()
    assert "holds step 0, after 3" in broken_checkpoints(tmp_path)[0]


def test_other_weights_and_figures_are_seen(tmp_path: Path) -> None:
    run = run_with_checkpoint(tmp_path, step=3, lines=4)
    results = {
        "metrics": {"bpb": 1.5},
        "leakage": {},
        "data": {},
        "lineage": {},
        "timing": {"s": 1},
    }
    (run / "results.json").write_bytes(orjson.dumps(results))
    before = fingerprint(tmp_path)
    assert len(before) == 2
    (run / "results.json").write_bytes(orjson.dumps(results | {"timing": {"s": 2}}))
    assert differences(fingerprint(tmp_path), before) == []
    (run / "results.json").write_bytes(orjson.dumps(results | {"metrics": {"bpb": 1.4}}))
    other = {"global_step": 3, "state_dict": {"w": torch.zeros(2)}}
    torch.save(other, run / "checkpoints/last.ckpt")
    assert len(differences(fingerprint(tmp_path), before)) == 2
    (run / "results.json").unlink()
    assert len(differences(fingerprint(tmp_path), before)) == 2


@pytest.mark.parametrize(
    ("said", "codes", "lines", "found"),
    [
        (("baseline: from step 0", "another process"), (0, 2), 3, []),
        (("baseline: from step 0", "baseline: from step 0"), (0, 0), 3, ["lost"]),
        (("", "no such file"), (0, 2), 3, ["lost"]),
        (("another process", "another process"), (2, 2), 3, ["lost"]),
        (("", ""), (0, 0), 6, ["wrong"]),
    ],
)
def test_a_second_training_is_seen(
    said: tuple[str, str], codes: tuple[int, int], lines: int, found: list[str], tmp_path: Path
) -> None:
    run = run_with_checkpoint(tmp_path, step=3, lines=3)
    curves = run / "metrics.jsonl"
    curves.write_bytes(curves.read_bytes() * (lines // 3))
    phase = Phase("train", [], tmp_path, tmp_path, [], fingerprint(tmp_path))
    counts = Counts("starts")
    ended = [Ended(code, words) for code, words in zip(codes, said, strict=True)]
    judge_starts(phase, tmp_path, "story", ended, counts)
    assert [finding.partition(":")[0] for finding in counts.findings] == found


def test_a_row_is_clean_only_if_everything_was_struck() -> None:
    row = Counts("kills", tried=3, must_hit=frozenset({"train"}))
    assert not row.clean
    row.hit["train"] += 1
    assert row.clean
    row.found("lost", "a checkpoint")
    assert not row.clean
    assert "| kills | 3 | 1 | 0 | 0 |" in table([row])


def test_accidents_change_most_files_and_are_the_same_every_time() -> None:
    data = b'{"text": "some text"}\n' * 9
    once = [mutated(data, random.Random(seed)) for seed in range(50)]
    assert once == [mutated(data, random.Random(seed)) for seed in range(50)]
    assert sum(one != data for one in once) > 45
