"""Contract of sampling: only allowed tokens are drawn, with their shares, and a row's draws depend
on the seed and the row alone.
"""

from __future__ import annotations

import torch

from retro_lab.nn.decode.sampling import Sampler, Sampling

LOGITS = torch.tensor([[0.0, 1.0, 2.0, 9.0]])


def drawn(times: int = 200, **fields: float) -> list[int]:
    sampler = Sampler(Sampling(**fields), 1, banned=[3])  # type: ignore[arg-type]
    return [sampler.draw(LOGITS.clone(), [0])[0] for _ in range(times)]


def test_only_what_is_allowed_is_drawn() -> None:
    assert set(drawn(temperature=5)) == {0, 1, 2}
    assert set(drawn(temperature=5, top_k=2)) == {1, 2}
    assert set(drawn(temperature=5, top_k=9)) == {0, 1, 2}
    assert set(drawn(temperature=0)) == {2}
    shares = (LOGITS[0, :3] / 5).softmax(-1).tolist()  # 0.26, 0.33, 0.40
    assert set(drawn(temperature=5, top_p=shares[2] - 0.01)) == {2}
    assert set(drawn(temperature=5, top_p=shares[2] + 0.01)) == {1, 2}
    # The share is one of what top_k leaves: there token 2 has 0.55.
    assert set(drawn(temperature=5, top_k=2, top_p=0.5)) == {2}


def test_tokens_are_drawn_with_their_shares() -> None:
    found = torch.bincount(torch.tensor(drawn(4000, temperature=2.0)), minlength=3) / 4000
    torch.testing.assert_close(found, (LOGITS[0, :3] / 2).softmax(-1), rtol=0.0, atol=0.03)


def test_draws_depend_on_seed_and_row_alone() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = Sampler(Sampling(seed=4), 3)
    both = [together.draw(logits, [0, 1, 2]) for _ in range(20)]
    alone = Sampler(Sampling(seed=5), 1)
    assert [row[1] for row in both] == [alone.draw(logits[1:2], [0])[0] for _ in range(20)]
    some = Sampler(Sampling(seed=4), 3)
    assert [row[2] for row in both] == [some.draw(logits[2:], [2])[0] for _ in range(20)]


def test_the_logits_are_left_alone() -> None:
    logits = LOGITS.clone()
    Sampler(Sampling(top_k=1), 1, banned=[3]).draw(logits, [0])
    assert torch.equal(logits, LOGITS)
