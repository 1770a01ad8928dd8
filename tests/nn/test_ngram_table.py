"""Contract: the n-gram table reads the tokens so far of the own document alone, hashes alike on
every machine, starts as the model without it, and generates what a full pass says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from shapes import in_steps, make_case

from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.ngram_table import MISSING, NgramTable, preceding

CONFIG = RetroConfig(
    vocab_size=4096, d_model=12, num_layers=2, num_heads=2, head_dim=6, d_ff=16, ngram_rows=1000
)


def test_later_tokens_and_other_documents_are_not_read() -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    documents = torch.tensor([[0, 0, 1, 1]])
    told = preceding(ids, 3, documents)[0].tolist()
    none = MISSING
    assert told == [[5, none, none], [6, 5, none], [7, none, none], [8, 7, none]]
    assert preceding(ids, 3)[0, 3].tolist() == [8, 7, 6]


def test_a_later_token_changes_no_earlier_score() -> None:
    case = make_case(ngram_rows=31)
    changed = case.tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 20
    with torch.no_grad():
        before, after = case.model(case.tokens), case.model(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10], after[:, 10])


def test_an_early_token_is_read_through_the_table() -> None:
    """In a model of one token's sight, only the table knows of the two before."""
    case = make_case(ngram_rows=31)
    for block in case.model.decoder_blocks():
        torch.nn.init.zeros_(block.attention.out.weight)
    changed = case.tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 20
    with torch.no_grad():
        same = (case.model(case.tokens) == case.model(changed)).all(-1).all(0)
    assert same.tolist() == [True] * 4 + [False] * 3 + [True] * 11


def test_no_score_of_a_document_depends_on_the_one_before_it_in_the_row() -> None:
    case = make_case(ngram_rows=31)
    documents = torch.tensor([[0] * 7 + [1] * 11]).expand_as(case.tokens)
    changed = case.tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 20
    with torch.no_grad():
        before, after = (case.model(ids, None, documents) for ids in (case.tokens, changed))
    assert torch.equal(before[:, 7:], after[:, 7:])
    assert not torch.equal(before[:, 6], after[:, 6])


def test_rows_are_the_same_everywhere() -> None:
    rows = NgramTable(CONFIG).rows(preceding(torch.tensor([[3, 4095, 17]]), 3))[0]
    assert rows.tolist() == [
        [448, 1271, 2751, 3625, 4505, 5436, 6422, 7251],
        [937, 1183, 2844, 3485, 4181, 5938, 6365, 7249],
        [298, 1299, 2524, 3142, 4133, 5061, 6435, 7008],
    ]


def test_two_ngrams_seldom_collide_in_all_hashes() -> None:
    table = NgramTable(CONFIG)
    ids = torch.randint(0, 4096, (1, 30_000), generator=torch.Generator().manual_seed(0))
    rows = table.rows(preceding(ids, 3))[0].T - 1000 * torch.arange(8)[:, None]
    assert (rows >= 0).all()
    assert (rows < 1000).all()
    counts = torch.stack([torch.bincount(row, minlength=1000) for row in rows]).double()
    assert counts.var(1).max() < 1.3 * 30, "as even as chance"
    first, second = rows[:, :2000], rows[:, 2000:4000]
    shared = (first == second).double()
    assert shared.mean() == pytest.approx(1 / 1000, abs=1e-3)
    assert shared.sum(0).max() <= 2


def test_it_starts_as_the_model_without_a_table_and_learns() -> None:
    torch.manual_seed(0)
    plain = Retro(dataclasses.replace(CONFIG, ngram_rows=0))
    model = Retro(CONFIG, NgramTable)
    model.load_state_dict(plain.state_dict(), strict=False)
    ids = torch.randint(0, 4096, (2, 9))
    assert torch.equal(model(ids), plain(ids))
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    for _ in range(2):
        optimiser.zero_grad()
        model.token_nats(ids[:, :-1], ids[:, 1:]).sum().backward()
        optimiser.step()
    assert isinstance(model.ngrams, NgramTable)
    gradient = model.ngrams.table.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("lengths", [[1] * 18, [5, 1, 2, 10]])
def test_generation_says_what_a_full_pass_says(lengths: list[int]) -> None:
    case = make_case(ngram_rows=31)
    with torch.no_grad():
        whole = case.model(case.tokens, case.neighbours)
    torch.testing.assert_close(in_steps(case, lengths, True), whole, rtol=0.0, atol=1e-9)


def test_a_model_never_runs_without_its_table() -> None:
    with pytest.raises(ValueError, match=r"ngram_rows need Retro\(config, NgramTable\)"):
        Retro(CONFIG)
    plain = Retro(dataclasses.replace(CONFIG, ngram_rows=0), NgramTable)
    assert plain.ngrams is None


def test_layers_outside_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match="ngram_layer 3"):
        Retro(dataclasses.replace(CONFIG, ngram_layer=3), NgramTable)
