"""Exact toy: a tabular masked diffusion model small enough to enumerate every distribution.

With V tokens and L positions there are (V + 1)^L partly masked states; the model is a table of logits for each of them.
It has the interface of the real model, so surrogates, methods and samplers run on it unchanged and can be compared with
enumerated values. Responses are enumerated in lexicographic order throughout.
"""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from unmask.models.llada import select


class TabularModel(nn.Module):
    """Table [(V + 1)^L, L, V + 1] of logits for π_θ(· | state); tokens 0..V−1, [MASK] is V; the prompt is ignored."""

    is_sharded = False  # as in llada.py

    def __init__(self, vocabulary: int, length: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.config = SimpleNamespace(mask_token_id=vocabulary, vocab_size=vocabulary + 1)
        self.lm_head = nn.Identity()  # the hidden states are the logits
        self.vocabulary, self.length = vocabulary, length
        states = (vocabulary + 1) ** length
        self.table = nn.Parameter(scale * torch.randn((states, length, vocabulary + 1), generator=generator))

    @property
    def device(self) -> torch.device:
        """Device of the table."""
        return self.table.device

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        columns: slice | Tensor = slice(None),
        *,
        store: None = None,
        window: None = None,
    ) -> Tensor:
        """Return logits [B, Q, V + 1] at `columns`; the state is the last L columns of `input_ids`. No KV cache."""
        # A state's row in the table is its tokens read as digits in base V + 1, the first position lowest.
        place = (self.vocabulary + 1) ** torch.arange(self.length, device=input_ids.device)
        prompt = input_ids.shape[1] - self.length
        wide = self.table[(input_ids[:, prompt:] * place).sum(1)]
        # `columns` index the whole sequence; prompt columns get zeros, because nothing asks for their logits.
        empty = wide.new_zeros(len(wide), prompt, wide.shape[2])
        return select(torch.cat((empty, wide), dim=1), columns)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Return log π_θ over the tokens [..., V + 1]; [MASK] has probability zero."""
        hidden = hidden.clone()
        hidden[..., self.vocabulary] = -torch.inf
        return torch.log_softmax(hidden, dim=-1)

    def target_log_probs(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Return log π_θ of the given tokens [n]."""
        return self.log_probs(hidden).gather(1, target[:, None])[:, 0]


def all_responses(model: TabularModel) -> Tensor:
    """Return every response [V^L, L] in lexicographic order."""
    return torch.tensor(list(itertools.product(range(model.vocabulary), repeat=model.length)))


def index_of(responses: Tensor, vocabulary: int) -> Tensor:
    """Return the indices [N] of responses [N, L] in `all_responses`."""
    length = responses.shape[1]
    return (responses * vocabulary ** torch.arange(length - 1, -1, -1)).sum(1)


def conditional(model: TabularModel, responses: Tensor, seen: Tensor) -> Tensor:
    """Compute log π_θ(o_d | tokens at `seen` [L]) of each response [N, L]; values at seen positions are meaningless."""
    states = torch.where(seen, responses, model.config.mask_token_id)
    return model.log_probs(model.hidden_states(states)).gather(2, responses[..., None])[..., 0]


def subsets(length: int) -> list[Tensor]:
    """Return all sets of positions as masks [L], smaller sets first."""
    masks = [torch.tensor(bits) for bits in itertools.product((False, True), repeat=length)]
    return sorted(masks, key=lambda mask: int(mask.sum()))


def log_likelihood(model: TabularModel) -> Tensor:
    """Compute the exact log p_θ(o) = log E_σ Π_d π_θ(o_σd | o_σ<d) of every response [V^L], σ uniform over orders."""
    # Dynamic programming over sets of revealed positions instead of L! orders: reached[S] is the log-probability
    # that the first |S| positions of σ are S and their tokens those of o. Smaller sets come first, so each entry is
    # final when it is read.
    responses, length = all_responses(model), model.length
    reached = {tuple([False] * length): torch.zeros(len(responses))}
    for seen in subsets(length)[:-1]:
        before = reached[tuple(seen.tolist())]
        # The next position is uniform over those that are still masked.
        scores = conditional(model, responses, seen) - torch.log(torch.tensor(float(length - seen.sum())))
        for position in (~seen).nonzero()[:, 0].tolist():
            after = seen.clone()
            after[position] = True
            key, value = tuple(after.tolist()), before + scores[:, position]
            reached[key] = torch.logaddexp(reached[key], value) if key in reached else value
    return reached[tuple([True] * length)]


def target(log_reference: Tensor, reward: Tensor, alpha: float) -> Tensor:
    """Return log p* of every response [V^L], with p* ∝ p_ref · exp(r/α)."""
    return torch.log_softmax(log_reference + reward / alpha, dim=0)


def random_modes(responses: int, modes: int, generator: torch.Generator) -> Tensor:
    """Draw a reward vector [responses]: 1 on `modes` random responses, 0 elsewhere."""
    reward = torch.zeros(responses)
    reward[torch.randperm(responses, generator=generator)[:modes]] = 1.0
    return reward


def share_covered(log_target: Tensor, log_p: Tensor, modes: Tensor) -> float:
    """Return the share of modes [V^L, bool] that have at least half of their probability under p*."""
    return float((log_p >= log_target - math.log(2))[modes].float().mean())


def kl(log_p: Tensor, log_q: Tensor) -> float:
    """Return KL(p ‖ q) in nats."""
    return float((log_p.exp() * (log_p - log_q)).sum())


def entropy(log_p: Tensor) -> float:
    """Return the entropy of p in nats."""
    return float(-(log_p.exp() * log_p).sum())
