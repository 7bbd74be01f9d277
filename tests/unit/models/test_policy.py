"""The native LLaDA model, its file format, padding, and the policy around it."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from unmask.models.llada import LladaForMaskedDiffusion
from unmask.models.policy import Policy
from unmask.models.tiny import MASK, build_model, build_tokenizer

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "down_proj"], "seed": 1}


@pytest.fixture
def ids():
    return torch.randint(2, 50, (3, 20), generator=torch.Generator().manual_seed(0))


def test_forward_is_that_of_a_bidirectional_llama(policy, ids):
    config = policy.model.config
    config.is_causal = False
    llama = LlamaForCausalLM(config).eval()
    llama.load_state_dict(policy.model.state_dict())
    torch.testing.assert_close(policy.model(ids), llama(ids).logits, atol=1e-5, rtol=1e-5)


def test_save_and_load_give_the_same_logits(policy, ids, tmp_path):
    policy.model.save_pretrained(tmp_path)
    again = LladaForMaskedDiffusion.from_pretrained(tmp_path)
    assert torch.equal(policy.model(ids), again.eval()(ids))


def test_a_row_does_not_depend_on_its_padding(policy, ids):
    padded = torch.cat((torch.full((3, 5), policy.eot), ids), 1)
    mask = torch.arange(25) >= 5
    found = policy.model(padded, mask.expand(3, -1))[:, 5:]
    torch.testing.assert_close(found, policy.model(ids), atol=1e-5, rtol=1e-5)


def test_asking_for_columns_gives_those_columns(policy, ids):
    part = policy.model.hidden_states(ids, None, slice(7, 12))
    torch.testing.assert_close(part, policy.model.hidden_states(ids)[:, 7:12])


def test_mask_has_probability_zero(policy, ids):
    probabilities = policy.model.log_probs(policy.model.hidden_states(ids)).exp()
    assert torch.all(probabilities[..., policy.model.config.mask_token_id] == 0)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, 20))


def test_tokenizer_has_a_token_for_each_character_and_tag():
    tokenizer = build_tokenizer()
    text = "<answer>3+5=8</answer><|endoftext|>"
    tokens = tokenizer(text).input_ids
    assert len(tokens) == 8
    assert tokenizer.decode(tokens) == text
    assert tokenizer.convert_tokens_to_ids(MASK) == 0


def test_same_seed_same_weights():
    shape = {"hidden_size": 16, "layers": 1, "heads": 2, "mlp_size": 16, "rope_theta": 1e4, "vocabulary": 54}
    one, same, other = (build_model(**shape, seed=seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("rank", [0, 4])
def test_reference_is_where_training_began(policy, ids, rank):
    before = policy.model(ids)
    policy.make_trainable(**{**LORA, "rank": rank})
    assert torch.equal(policy.model(ids), before)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
    moved = policy.model(ids)
    assert not torch.equal(moved, before)
    with policy.reference():
        assert torch.equal(policy.model(ids), before)
    assert torch.equal(policy.model(ids), moved)
    policy.set_reference()
    with policy.reference():
        assert torch.equal(policy.model(ids), moved)


@pytest.mark.parametrize("rank", [0, 4])
def test_what_was_trained_is_saved_and_loaded(policy, ids, tmp_path, rank):
    policy.model.save_pretrained(tmp_path / "base")
    policy.tokenizer.save_pretrained(tmp_path / "base")
    policy.make_trainable(**{**LORA, "rank": rank})
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
    policy.save(tmp_path / "adapter")
    again = Policy.load(tmp_path / "base", tmp_path / "adapter")
    torch.testing.assert_close(again.model(ids), policy.model(ids))


def test_adapter_loads_with_peft(policy, ids, tmp_path):
    from peft import PeftModel

    policy.model.save_pretrained(tmp_path / "base")
    policy.make_trainable(**LORA)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
    policy.save(tmp_path / "adapter")
    base = LladaForMaskedDiffusion.from_pretrained(tmp_path / "base")
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(loaded.get_base_model()(ids), policy.model(ids))


def test_a_policy_goes_on_training_a_loaded_adapter(policy, tmp_path):
    policy.model.save_pretrained(tmp_path / "base")
    policy.tokenizer.save_pretrained(tmp_path / "base")
    policy.make_trainable(**LORA)
    policy.save(tmp_path / "adapter")
    again = Policy.load(tmp_path / "base", tmp_path / "adapter")
    again.make_trainable(**LORA)
    assert set(again.trainable()) == set(policy.trainable())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_activation_checkpointing_gives_the_same_gradient(make_policy, ids, dropout):
    found = []
    for checkpointed in (False, True):
        policy = make_policy()
        policy.make_trainable(rank=4, alpha=8, dropout=dropout, targets=["q_proj", "up_proj"], seed=0)
        for name, parameter in policy.trainable().items():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
        policy.model.train()
        policy.model.activation_checkpointing = checkpointed
        torch.manual_seed(0)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            loss = policy.model.hidden_states(ids).square().sum()
        loss.backward()
        found.append(({name: p.grad for name, p in policy.trainable().items()}, sum(kept)))
    (one, much), (other, little) = found
    assert little < much / 3
    for name, grad in one.items():
        assert torch.equal(other[name], grad)
