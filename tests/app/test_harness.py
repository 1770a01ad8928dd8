"""Contract: a run as lm-eval's model scores text as the run's own evaluation does, reads only what
comes before, and lm-eval's own model class gives a baseline the same bits per byte.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import orjson
import pytest
from golden import CORPUS, Golden
from small_corpus import corpus_overrides, write_corpus

from retro_lab.__main__ import main as command
from retro_lab.commands.evaluate import main
from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.text_scoring import ScoredText
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.compared import compared_runs
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.run.tasks.conditions import Conditions

needs_lm_eval = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is an extra")

CONDITIONS = ["baseline", "plain", "off", "random", "on"]


@pytest.fixture(scope="module")
def conditions(run: RunDirectory) -> Conditions:
    config = replace(run.config(), runs_dir=str(run.path.parent))
    return Conditions(FinishedRun(run, config), compared_runs(config))


@pytest.fixture(scope="module")
def table(run: RunDirectory) -> ChunkTable:
    return ChunkTable.load(run.chunks_file)


@pytest.fixture(scope="module")
def texts(golden: Golden) -> dict[str, str]:
    lines = (golden.corpus / "corpus.jsonl").read_bytes().splitlines()
    return {record["id"]: record["text"] for record in map(orjson.loads, lines)}


def tokens_of(conditions: Conditions, text: str) -> list[int]:
    [encoded] = conditions.run.tokenizer.encode_batch([text])
    return [conditions.run.tokenizer.boundary_id, *encoded.ids.tolist()]


@pytest.mark.parametrize("condition", ["baseline", "plain", "off", "on"])
def test_documents_score_as_in_the_runs_own_evaluation(
    conditions: Conditions, table: ChunkTable, texts: dict[str, str], condition: str
) -> None:
    names = list(dict.fromkeys(table.document_id.tolist()))
    documents = [ScoredText(tokens_of(conditions, texts[name])) for name in names]
    assert (
        max(len(text.tokens) for text in documents) > conditions.run.config.chunking.sequence_length
    )
    scores = conditions.scorer(condition).score(documents)
    nats = [table.nats[condition][table.document_id == name].sum() for name in names]
    assert [score.nats for score in scores] == pytest.approx(nats, rel=1e-5)


def test_a_continuation_scores_what_is_left_of_the_whole(
    conditions: Conditions, texts: dict[str, str]
) -> None:
    """So nothing that comes later is read, and no token is scored twice or left out."""
    tokens, scorer = tokens_of(conditions, texts["test-01"]), conditions.scorer("on")
    for place in (1, 15, 16, 17, 100, len(tokens) - 1):
        before, after, whole = scorer.score(
            [ScoredText(tokens[:place]), ScoredText(tokens, place), ScoredText(tokens)]
        )
        assert before.nats + after.nats == pytest.approx(whole.nats, rel=1e-5)


def test_random_neighbours_are_each_chunks_own(
    conditions: Conditions, texts: dict[str, str]
) -> None:
    tokens = tokens_of(conditions, texts["planted-a"])
    source = conditions.source("random")
    assert source is not None
    one, other, again = source.search([tokens[:16], tokens[16:32], tokens[:16]])[0]
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    planted = [ScoredText(tokens)]
    nats = {name: conditions.scorer(name).score(planted)[0].nats for name in CONDITIONS}
    assert nats["random"] not in (nats["off"], nats["on"])


@needs_lm_eval
def test_requests_of_lm_eval_are_documents(conditions: Conditions, texts: dict[str, str]) -> None:
    from lm_eval.api.instance import Instance

    from retro_lab.evaluation.tasks.harness import RunLM

    model = RunLM(conditions.scorer("on"), conditions.writer("on"), conditions.run.tokenizer, "on")
    text = texts["test-04"]
    place = text.index(" ", 300)
    before, after = text[:place], text[place:]
    encoded = model.tok_encode(before)
    assert model.tok_encode(text)[: len(encoded)] == encoded
    whole, first = model.loglikelihood_rolling(
        [Instance("loglikelihood_rolling", {}, (part,), 0) for part in (text, before)]
    )
    pairs = [("", text), (before, after)]
    alone, rest = model.loglikelihood([Instance("loglikelihood", {}, p, 0) for p in pairs])
    assert alone[0] == pytest.approx(whole, rel=1e-5)
    assert first + rest[0] == pytest.approx(whole, rel=1e-5)
    assert model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("",), 0)]) == [0.0]
    drawn = Instance("generate_until", {}, ("a", {"do_sample": True, "temperature": 1.0}), 0)
    with pytest.raises(UserError, match="draws tokens at random"):
        model.generate_until([drawn])


def test_greedy_is_what_generation_writes(conditions: Conditions, texts: dict[str, str]) -> None:
    """The writer keeps a cache and searches as it goes; the scorer reads the whole text at once."""
    writer, scorer = conditions.writer("on"), conditions.scorer("on")
    written = []
    for length in (5, 16, 40):
        prompt = tokens_of(conditions, texts["train-03"])[:length]
        steps = writer._steps([prompt], 20, writer.search, left_pad=False, going={0})
        written.append((prompt, [step[0] for step in steps]))
    pieces = [ScoredText([*prompt, *new], len(prompt)) for prompt, new in written]
    assert [score.greedy for score in scorer.score(pieces, greedy=True)] == [True] * 3
    other = [replace_last(piece, conditions.run.tokenizer.pad_id) for piece in pieces]
    assert [score.greedy for score in scorer.score(other, greedy=True)] == [False] * 3


def replace_last(piece: ScoredText, below: int) -> ScoredText:
    return ScoredText([*piece.tokens[:-1], (piece.tokens[-1] + 1) % below], piece.first)


def test_texts_end_at_a_stop_string(conditions: Conditions, texts: dict[str, str]) -> None:
    writer = conditions.writer("off")
    prompts = [tokens_of(conditions, texts["train-03"])[:20], tokens_of(conditions, "ab")]
    whole = writer.write(prompts, max_tokens=24, until=[])
    assert all(whole)
    stop = whole[0][2:4]
    cut = writer.write(prompts, max_tokens=24, until=["\0", stop])
    assert cut == [text.split(stop)[0] for text in whole]


def write_documents(path: Path, documents: list[dict]) -> Path:
    path.write_bytes(b"\n".join(map(orjson.dumps, documents)) + b"\n")
    return path


@needs_lm_eval
def test_the_command_gives_lm_evals_figures_by_condition(
    run: RunDirectory,
    table: ChunkTable,
    texts: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The text has nothing that the task of WikiText changes, so its figures are the run's own."""
    name = "test-02"
    wiki = write_documents(tmp_path / "wiki.jsonl", [{"id": name, "text": texts[name]}])
    words = write_documents(
        tmp_path / "words.jsonl", [{"text": texts[f"test-0{i}"]} for i in "345"]
    )
    before = run.results_file.read_bytes(), run.chunks_file.read_bytes()
    arguments = [
        f"run={run.path}",
        "eval=harness",
        "eval.tasks=[lambada_openai,wikitext]",
        f"eval.files.wikitext={wiki}",
        f"eval.files.lambada_openai={words}",
        "eval.limit=2",
        "eval.bootstrap_samples=10",
    ]
    assert main(arguments) == 0
    assert (run.results_file.read_bytes(), run.chunks_file.read_bytes()) == before
    record = orjson.loads((run.path / "harness.json").read_bytes())
    assert record["conditions"] == CONDITIONS
    rows = table.document_id == name
    for condition in ("baseline", "plain", "off", "on"):
        bits = table.nats[condition][rows].sum() / np.log(2) / table.bytes[rows].sum()
        found = record["tasks"]["wikitext"]["bits_per_byte"][condition]
        assert found["value"] == pytest.approx(bits, rel=1e-5)
        assert found["samples"] == 1
    accuracy = record["tasks"]["lambada_openai"]["acc"]["on"]
    assert accuracy["samples"] == 2
    assert accuracy["higher_is_better"]
    assert "harness.json" in (run.path / "index.html").read_text()
    out = capsys.readouterr().out
    assert "wikitext       bits_per_byte ↓" in out


@needs_lm_eval
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval.tasks=[wikitxt]"], "no task wikitxt\n  fix: did you mean wikitext"),
        (["eval.tasks=[]"], "eval.tasks has no value and needs one"),
        (["eval.tasks=[wikitext]", "eval.files.lambada=x"], "lambada is none of eval.tasks"),
        (["eval.tasks=[wikitext]", "eval.files.wikitext=none.jsonl"], "no such file"),
        (["eval.tasks=[wikitext]", "eval.limit=0"], "eval.limit=0: must be at least 1"),
    ],
)
def test_what_cannot_be_asked_is_one_message(
    run: RunDirectory, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={run.path}", "eval=harness", *arguments]) == 2
    assert said in capsys.readouterr().err


@needs_lm_eval
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a b"}\n{"text": "a', "words.jsonl, line 2: not valid JSON"),
        ('{"text": "a b"}\n[]', "words.jsonl, line 2: not a JSON object"),
        ('{"text": "a b"}\n\n{"title": "a"}', "words.jsonl, line 3: no field 'text'"),
        ("\n", "the file has no documents"),
        ('{"title": "a b"}', "their fields are title"),
    ],
)
def test_a_malformed_file_is_one_message(
    run: RunDirectory, tmp_path: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "words.jsonl"
    file.write_text(content)
    tasks = ["eval.tasks=[lambada_openai]", f"eval.files.lambada_openai={file}"]
    assert main([f"run={run.path}", "eval=harness", *tasks]) == 2
    assert said in capsys.readouterr().err


def test_without_lm_eval_it_says_what_to_install(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as where it is not installed
    assert main([f"run={run.path}", "eval=harness", "eval.tasks=[wikitext]"]) == 2
    assert 'pip install -e ".[eval]"' in capsys.readouterr().err


@needs_lm_eval
def test_lm_evals_own_model_class_gives_a_run_the_same_bits_per_byte(tmp_path: Path) -> None:
    """Over a whole test split. lm-eval's windows are ours with a stride of a window, except that
    its last one, where it is not full, reaches back: so documents fill theirs, or fit into one.
    """
    from lm_eval.models.huggingface import HFLM

    from retro_lab.evaluation.tasks.harness_tasks import Tasks

    baseline = whole_windows(tmp_path)
    config = baseline.config()
    window = config.chunking.sequence_length
    assert config.scored_stride == window
    assert command(["export", f"run={baseline.path}", f"out={tmp_path / 'baseline'}"]) == 0
    theirs = HFLM(pretrained=str(tmp_path / "baseline"), device="cpu", batch_size=4)
    assert theirs.max_length == window
    assert theirs.prefix_token_id == 256  # the boundary token
    texts = [line["text"] for line in split_of(tmp_path)]
    assert {len(text) // window for text in texts} >= {0, 3, 4}
    file = write_documents(tmp_path / "split.jsonl", [{"page": text} for text in texts])
    tasks = Tasks(["wikitext"], {"wikitext": str(file)})
    found = tasks.evaluate(theirs, limit=None, bootstrap_samples=0)["wikitext"]
    score = Results.load(baseline.results_file).metrics["test"]["baseline"]
    assert score.bytes == sum(map(len, texts))
    assert found["bits_per_byte"]["value"] == pytest.approx(score.bpb, rel=1e-6)


def whole_windows(folder: Path) -> RunDirectory:
    """A baseline over bytes, whose test documents end with a window or are shorter than one."""
    write_corpus(folder, CORPUS)
    lines = [orjson.loads(line) for line in (folder / "corpus.jsonl").read_bytes().splitlines()]
    window = 128
    for number, line in enumerate(lines):
        cut = [4 * window, 3 * window, window, 100][number % 4]
        line["text"] = line["text"][:cut]
    write_documents(folder / "corpus.jsonl", lines)
    golden = Golden(
        folder,
        folder,
        (
            *corpus_overrides(folder),
            *(
                "retriever=none",
                "tokenizer=byte",
                "debug=fast",
                "corpus.max_bytes=null",
                "logger=none",
            ),
            *(f"chunking.sequence_length={window}", f"eval.stride={window}", "trainer.threads=1"),
            *(f"runs_dir={folder / 'runs'}", f"store.dir={folder / 'store'}"),
        ),
    )
    return golden.run()


def split_of(folder: Path) -> list[dict]:
    names = set((folder / "test.txt").read_text().split())
    lines = (folder / "corpus.jsonl").read_bytes().splitlines()
    return [record for record in map(orjson.loads, lines) if record["id"] in names]
