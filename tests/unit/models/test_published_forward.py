"""What models in the published layouts of LLaDA and Dream compute, against a plain forward pass of the same weights."""

import pytest
import torch

from helpers.published_checkpoints import change_json, kinds, load, plain_logits, write_checkpoint
from helpers.streams import streams
from unmask.config.schema.samplers import TopK
from unmask.models.checkpoint_formats import Layout
from unmask.models.dream import DreamForMaskedDiffusion
from unmask.rl.likelihoods import token_log_probs
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

pytestmark = pytest.mark.usefixtures("no_network")


# --- what is computed -------------------------------------------------------------------------------------------------


@kinds
def test_logits_are_those_of_a_plain_forward(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    wanted = torch.stack([plain_logits(kind, weights, row) for row in ids])
    with torch.no_grad():
        found = load(tmp_path)(ids)
    assert wanted.std() > 0.5
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@kinds
def test_bfloat16_is_the_same_up_to_rounding(kind, tmp_path):
    """Against the same arithmetic in bfloat16; over so many positions, angles in bfloat16 would show."""
    weights = write_checkpoint(tmp_path, kind, torch.bfloat16)
    ids = torch.randint(2, 59, (1, 127), generator=torch.Generator().manual_seed(0))
    rounded = torch.stack([plain_logits(kind, weights, row) for row in ids]).float()
    exact = {name: value.float() for name, value in weights.items()}
    exact = torch.stack([plain_logits(kind, exact, row) for row in ids])
    with torch.no_grad():
        found = load(tmp_path, torch.bfloat16)(ids)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).std() < 1.2 * (rounded - exact).std()


@kinds
def test_weights_in_bfloat16_load_as_float32_exactly(kind, tmp_path):
    weights = write_checkpoint(tmp_path, kind, torch.bfloat16)
    head = [value for name, value in weights.items() if name in ("model.transformer.ff_out.weight", "lm_head.weight")]
    model = load(tmp_path)
    assert torch.equal(model.lm_head.weight, head[0].float())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@kinds
def test_columns_are_the_states_that_predict_them(kind, ids, tmp_path):
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    with torch.no_grad():
        whole = model.hidden_states(ids)
        assert whole.shape == (3, 17, 24)
        for columns in (slice(0, 1), slice(0, 5), slice(1, 2), slice(5, 9), slice(9, None), slice(-3, None)):
            torch.testing.assert_close(model.hidden_states(ids, None, columns), whole[:, columns])


@kinds
def test_columns_may_differ_from_row_to_row(kind, ids, tmp_path):
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    columns = torch.tensor([[3, 4, 16], [0, 1, 9], [5, 2, 2]])
    with torch.no_grad():
        whole = model.hidden_states(ids)
        torch.testing.assert_close(model.hidden_states(ids, None, columns), whole[torch.arange(3)[:, None], columns])


@kinds
@pytest.mark.parametrize("first", [0, 9])
def test_a_window_on_stored_keys_and_values_gives_the_same_states(kind, first, ids, tmp_path):
    """But for what is not in the window; where nothing has changed since, that is the same too."""
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    mask = torch.arange(17) >= torch.tensor([[0], [2], [5]])
    store = model.empty_store(3, 17)
    window = torch.arange(first, first + 6).clamp(max=16).expand(3, -1)
    with torch.no_grad():
        whole = model.hidden_states(ids, mask, store=store)
        found = model.hidden_states(ids, mask, slice(0, 4), store=store, window=window)
        torch.testing.assert_close(found, whole[:, first : first + 4])
        chosen = torch.tensor([[1, 0], [2, 3], [3, 3]])
        found = model.hidden_states(ids, mask, chosen, store=store, window=window)
        torch.testing.assert_close(found, whole[torch.arange(3)[:, None], first + chosen])
        # A changed token inside the window is seen by all of it.
        other = ids.clone()
        other[:, first + 2] = 58
        found = model.hidden_states(other, mask, slice(0, 4), store=store, window=window)
        assert (found - whole[:, first : first + 4]).abs().amax((0, 2)).min() > 1e-3


@kinds
def test_caches_are_exact_where_nothing_changes_within_a_block(kind, tmp_path):
    """Blocks of one token: each has one pass, and that fills the cache."""
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    prompt = torch.randint(2, 59, (3, 7), generator=torch.Generator().manual_seed(1))
    top1 = TopK(tokens_per_step=1, score="confidence")

    def response(cache):
        settings = DecodingSettings(6, 1, top1.model_copy(update={"cache": cache}), temperature=0.0)
        return decode(model, prompt, prompt > 0, settings, eot=1, streams=streams(3)).response

    none, prefix, dual = map(response, ("none", "prefix", "dual"))
    assert torch.equal(none, prefix)
    assert torch.equal(none, dual)


@kinds
def test_left_padding_does_not_change_a_row(kind, ids, tmp_path):
    """But for Dream's first token, which nothing stands before."""
    weights = write_checkpoint(tmp_path, kind)
    padded = torch.cat((torch.full((3, 6), 1), ids), 1)
    mask = (torch.arange(23) >= 6).expand(3, -1)
    with torch.no_grad():
        found = load(tmp_path)(padded, mask)[:, 7:]
    wanted = torch.stack([plain_logits(kind, weights, row) for row in ids])[:, 1:]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@kinds
def test_without_a_mask_padding_is_read_as_the_released_codes_do(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    prompt, response = torch.cat((torch.full((3, 6), 1), ids[:, :9]), 1), ids[:, 9:]
    scored = torch.ones_like(response, dtype=torch.bool)
    noisy = torch.full_like(response, 60)
    with torch.no_grad():
        found = token_log_probs(model, prompt, torch.ones_like(prompt, dtype=torch.bool), noisy, response, scored)
        masked = token_log_probs(model, prompt, prompt != 1, noisy, response, scored)
    logits = torch.stack([plain_logits(kind, weights, row) for row in torch.cat((prompt, noisy), 1)])[:, 15:]
    logits[..., 60] = -torch.inf
    torch.testing.assert_close(found, logits.log_softmax(-1).gather(2, response[..., None])[..., 0])
    assert (found - masked).abs().max() > 0.01


def test_dream_predicts_a_token_one_position_before_it(ids, tmp_path):
    """Only through the shift: the unshifted logits of the body are another column's."""
    write_checkpoint(tmp_path, "dream")
    model = load(tmp_path)
    assert isinstance(model, DreamForMaskedDiffusion)
    with torch.no_grad():
        body = super(DreamForMaskedDiffusion, model).hidden_states(ids)
        torch.testing.assert_close(model.hidden_states(ids)[:, 1:], body[:, :-1])
    assert model.model.layers[0].self_attn.q_proj.bias is not None
    assert model.model.layers[0].self_attn.o_proj.bias is None


# --- the published sizes ----------------------------------------------------------------------------------------------


def test_the_8b_config_makes_the_published_weights(tmp_path):
    write_checkpoint(tmp_path, "llada")
    change_json(tmp_path / "config.json", d_model=4096, n_heads=32, n_kv_heads=32, n_layers=32, mlp_hidden_size=12288,
                embedding_size=126464, vocab_size=126464, mask_token_id=126336, eos_token_id=126081)  # fmt: skip
    layout = Layout.read(tmp_path)
    model = layout.empty_model()
    assert sum(p.numel() for p in model.parameters()) == 8_015_581_184
    names = {layout.stored_name(name) for name in model.state_dict()}
    assert len(names) == 291
    assert "model.transformer.blocks.31.ff_out.weight" in names
    assert model.config.head_dim == 128


def test_the_7b_config_makes_the_published_weights(tmp_path):
    write_checkpoint(tmp_path, "dream")
    change_json(tmp_path / "config.json", hidden_size=3584, num_attention_heads=28, num_key_value_heads=4,
                num_hidden_layers=28, intermediate_size=18944, vocab_size=152064, mask_token_id=151666)  # fmt: skip
    model = Layout.read(tmp_path).empty_model()
    assert sum(p.numel() for p in model.parameters()) == 7_615_616_512
    assert len(model.state_dict()) == 339
