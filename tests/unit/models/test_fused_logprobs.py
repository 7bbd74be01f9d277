"""Log-probabilities in parts equal the textbook's, with their gradients."""

import pytest
import torch

from unmask.models import fused_logprobs


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_equal_log_softmax(monkeypatch, rows_at_once, dtype):
    monkeypatch.setattr(fused_logprobs, "logit_chunk_rows", lambda device_type, vocabulary: rows_at_once)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((7, 5), (11, 5)))
    target = torch.randint(0, 10, (7,), generator=generator)
    upstream = torch.randn(7, generator=generator)
    results = []
    for textbook in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if textbook:
            logits = (h @ w.T).float().index_fill(1, torch.tensor([10]), -torch.inf)
            found = torch.log_softmax(logits, -1)[torch.arange(7), target]
        else:
            found = fused_logprobs.target_log_probs(h, w, target, 10)
        (found * upstream).sum().backward()
        results.append((found.detach(), h.grad, w.grad))
    for ours, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_no_rows_are_no_error():
    hidden, weight = torch.randn(4, 3, requires_grad=True), torch.randn(6, 3)
    fused_logprobs.target_log_probs(hidden, weight, torch.tensor([0, 1, 2, 3]), 5).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None
    assert fused_logprobs.target_log_probs(hidden[:0], weight, torch.tensor([], dtype=torch.long), 5).shape == (0,)
