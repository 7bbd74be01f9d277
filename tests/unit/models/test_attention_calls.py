"""What the attention of a layer hands to torch: shapes that fast kernels take, and inputs in one piece."""

import pytest
import torch

from helpers.published_checkpoints import kinds, load, plain_logits, write_checkpoint
from unmask.models import llada


@pytest.fixture
def calls(monkeypatch):
    """The calls of scaled_dot_product_attention: query, key, mask, enable_gqa."""
    found, attention = [], llada.F.scaled_dot_product_attention

    def spy(query, key, value, attn_mask=None, enable_gqa=False):
        found.append((query, key, attn_mask, enable_gqa))
        return attention(query, key, value, attn_mask=attn_mask, enable_gqa=enable_gqa)

    monkeypatch.setattr(llada.F, "scaled_dot_product_attention", spy)
    return found


@kinds
def test_with_padding_every_query_has_keys_of_its_own(kind, calls, ids, tmp_path):
    """Neither flash nor memory-efficient attention takes a mask and shared keys; both test models share keys."""
    weights = write_checkpoint(tmp_path, kind)
    model, padding = load(tmp_path), 4
    padded = torch.cat((torch.full((3, padding), 1), ids), 1)
    mask = (torch.arange(padded.shape[1]) >= padding).expand(3, -1)
    with torch.no_grad():
        found = model(padded, mask)[:, padding:]
        assert all((q.shape[1], k.shape[1], gqa) == (4, 4, False) for q, k, _, gqa in calls)
        calls.clear()
        plain = model(ids)
    assert all((q.shape[1], k.shape[1], gqa) == (4, 2, True) for q, k, _, gqa in calls)
    first = kind == "dream"  # the first token after padding is predicted from the padding
    torch.testing.assert_close(found[:, first:], plain[:, first:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0, first:], plain_logits(kind, weights, ids[0])[first:], atol=1e-4, rtol=1e-4)


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_layers_queries_are_one_product_in_bfloat16(kind, dtype, ids, tmp_path):
    """In fp32 they stay as they were: the results of the laptop scale are held to their bits."""
    write_checkpoint(tmp_path, kind)
    model, seen = load(tmp_path, dtype), []
    model.model.layers[-1].self_attn.q_proj.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        part = model.hidden_states(ids, None, slice(9, 13))
        whole = model.hidden_states(ids)
    assert seen[0].shape[1] == 4
    assert seen[0].is_contiguous() == (dtype == torch.bfloat16)
    exactness = {torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(part, whole[:, 9:13], atol=exactness, rtol=exactness)
