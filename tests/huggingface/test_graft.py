"""Contract: a graft leaves the backbone as it is. Off is the backbone to the last bit, for every
family; a chunk's neighbours are read from its last token on, and nothing sees the future.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import FAMILIES, PAD, VOCABULARY, M, R, backbone_config, grafted, neighbours, tokens
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from retro_lab.huggingface.backbones import build_backbone, forward_flops
from retro_lab.huggingface.graft import positions_in_document
from retro_lab.memory.states import watched_states

N = 14  # three chunks and a half


@pytest.mark.parametrize("family", FAMILIES)
def test_off_is_the_backbone_to_the_last_bit(family: str) -> None:
    model, ids = grafted(family), tokens(2, N)
    plain = type(model.backbone)(model.backbone.config).eval()  # another one, without our hooks
    plain.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        model(ids, neighbours(2, 3))
        backbone = plain(ids).logits
        assert torch.equal(model(ids), backbone)  # what was read is forgotten
        targets = tokens(2, N, seed=5)
        log_probs = backbone.log_softmax(-1)
        expected = -log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(model.token_nats(ids, targets), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_operations_are_those_that_pytorch_performs(family: str) -> None:
    config, ids = backbone_config(family), tokens(2, N)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        build_backbone(config)(ids)
    assert forward_flops(config, *ids.shape) == counter.get_total_flops()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reads", [False, True])
def test_the_states_of_a_memory_are_what_the_output_layer_reads(family: str, reads: bool) -> None:
    model, ids = grafted(family, pointer=False), tokens(2, N)
    found = neighbours(2, 3) if reads else None
    with torch.no_grad(), watched_states(model) as seen:
        logits = model(ids, found)
        [states] = seen
        assert torch.equal(model.logits(states), logits)
        assert (states[:, -1] != model.hidden(ids, neighbours(2, 3, seed=4))[0][:, -1]).any()
    model(ids, found)
    assert len(seen) == 2  # no longer watched


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_cca_changes_nothing(family: str) -> None:
    model, ids = grafted(family, opened=False, pointer=False), tokens(2, N)
    assert torch.equal(model(ids, neighbours(2, 3)), model(ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_act_from_their_chunks_last_token_on(family: str) -> None:
    model, ids, found = grafted(family), tokens(2, N), neighbours(2, 3)
    before = model(ids, found)
    for chunk in range(3):
        other = found.clone()
        other[:, chunk] = tokens(2, 2, R, seed=9)
        changed = (model(ids, other) != before).any(-1)
        first = M * (chunk + 1) - 1
        assert not changed[:, :first].any()
        assert changed[:, first].all()


@given(family=st.sampled_from(FAMILIES), place=st.integers(0, N - 1), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_no_position_sees_the_future(family: str, place: int, seed: int) -> None:
    model, ids, found = grafted(family), tokens(1, N, seed=seed), neighbours(1, 3, seed=seed)
    other = ids.clone()
    other[:, place] = (other[:, place] + 1) % VOCABULARY
    changed = (model(other, found) != model(ids, found)).any(-1)[0]
    assert not changed[:place].any()
    assert changed[place]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("retrieval", [False, True])
def test_packed_documents_are_as_if_each_stood_alone(family: str, retrieval: bool) -> None:
    model, ids = grafted(family), tokens(2, 4 * M)
    documents = torch.tensor([[7] * (2 * M) + [2] * (2 * M)] * 2)
    found = neighbours(2, 4) if retrieval else None
    packed = model(ids, found, documents)
    for part, chunks in ((slice(0, 2 * M), slice(0, 2)), (slice(2 * M, None), slice(2, 4))):
        alone = model(ids[:, part], None if found is None else found[:, chunks])
        torch.testing.assert_close(packed[:, part], alone, atol=1e-5, rtol=1e-5)


def test_positions_in_documents() -> None:
    documents = torch.tensor([[5, 5, 5, 2, 2, 9], [1, 1, 1, 1, 1, 1]])
    assert positions_in_document(documents).tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_neighbours_are_the_identity(family: str) -> None:
    model, ids = grafted(family), tokens(2, N)
    missing = torch.full((2, 3, 2, R), PAD)
    torch.testing.assert_close(model(ids, missing), model(ids).log_softmax(-1))


@pytest.mark.parametrize("share", [True, False])
def test_scores_are_the_mixtures_log_probabilities(share: bool) -> None:
    model, ids, found = grafted("llama", share=share), tokens(2, N), neighbours(2, 3)
    targets = tokens(2, N, seed=5)
    targets[0, 3] = -100
    nats = model.token_nats(ids, targets, found)
    log_probs = model(ids, found)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, N))
    expected = -log_probs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(nats, expected.masked_fill(targets < 0, 0.0))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_training_moves_only_retrieval(family: str, checkpointing: bool) -> None:
    model = grafted(family).train()
    model.freeze_backbone()
    model.enable_checkpointing(checkpointing)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    off = model(tokens(2, N))
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(2):  # what is behind a zero gate moves in the second step
        nats = model.token_nats(tokens(2, N), tokens(2, N, seed=5), neighbours(2, 3))
        nats.sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == model.retrieval_parameters()
    held = {id(parameter) for parameter in model.backbone_parameters()}
    rest = {name for name, parameter in model.named_parameters() if id(parameter) not in held}
    assert rest == model.retrieval_parameters()
    assert torch.equal(model(tokens(2, N)), off)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_unfrozen_training_moves_everything(family: str) -> None:
    model = grafted(family).train()
    nats = model.token_nats(tokens(2, N), tokens(2, N, seed=5), neighbours(2, 3))
    nats.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_checkpointing_keeps_loss_and_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = grafted("llama").train()
        model.enable_checkpointing(checkpointing)
        nats = model.token_nats(tokens(2, N), tokens(2, N, seed=5), neighbours(2, 3)).sum()
        nats.backward()
        gradients.append([nats.detach(), *(p.grad for p in model.parameters())])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_weights_of_another_decoder_are_refused() -> None:
    with pytest.raises(ValueError, match="not this decoder's weights"):
        grafted("gpt2").load_backbone(grafted("llama").backbone.state_dict())


def test_encoder_reads_the_sum_of_input_and_attention() -> None:
    """h + a at the first layer with CCA, as in Algorithm 1."""
    from transformers import AutoModelForCausalLM

    model, ids = grafted("llama"), tokens(1, N)
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    model(ids, neighbours(1, 3))
    plain = AutoModelForCausalLM.from_config(backbone_config("llama")).eval()
    plain.load_state_dict(model.backbone.state_dict())
    block = plain.model.layers[1]
    after = {}
    block.post_attention_layernorm.register_forward_pre_hook(
        lambda _, args: after.setdefault("x", args[0])
    )
    plain(ids)
    torch.testing.assert_close(seen[0].flatten(1, 2), after["x"][:, : 3 * M])
