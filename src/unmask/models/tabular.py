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
        self.vocabulary = vocabulary
        self.length = length
        states = (vocabulary + 1) ** length
        logits = torch.randn((states, length, vocabulary + 1), generator=generator)
        self.table = nn.Parameter(scale * logits)

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
        positions = torch.arange(self.length, device=input_ids.device)
        place_values = (self.vocabulary + 1) ** positions
        prompt = input_ids.shape[1] - self.length
        digits = input_ids[:, prompt:]
        states = (digits * place_values).sum(1)
        wide = self.table[states]

        # `columns` index the whole sequence; prompt columns get zeros, because nothing asks for their logits.
        empty = wide.new_zeros(len(wide), prompt, wide.shape[2])
        whole = torch.cat((empty, wide), dim=1)
        return select(whole, columns)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Return log π_θ over the tokens [..., V + 1]; [MASK] has probability zero."""
        hidden = hidden.clone()
        hidden[..., self.vocabulary] = -torch.inf
        return torch.log_softmax(hidden, dim=-1)

    def target_log_probs(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Return log π_θ of the given tokens [n]."""
        log_probs = self.log_probs(hidden)
        return log_probs.gather(1, target[:, None])[:, 0]


def all_responses(model: TabularModel) -> Tensor:
    """Return every response [V^L, L] in lexicographic order."""
    tokens = range(model.vocabulary)
    responses = itertools.product(tokens, repeat=model.length)
    return torch.tensor(list(responses))


def index_of(responses: Tensor, vocabulary: int) -> Tensor:
    """Return the indices [N] of responses [N, L] in `all_responses`."""
    length = responses.shape[1]
    place_values = vocabulary ** torch.arange(length - 1, -1, -1)
    return (responses * place_values).sum(1)


def conditional(model: TabularModel, responses: Tensor, seen: Tensor) -> Tensor:
    """Compute log π_θ(o_d | tokens at `seen` [L]) of each response [N, L]; values at seen positions are meaningless."""
    states = torch.where(seen, responses, model.config.mask_token_id)
    log_probs = model.log_probs(model.hidden_states(states))
    return log_probs.gather(2, responses[..., None])[..., 0]


def subsets(length: int) -> list[Tensor]:
    """Return all sets of positions as masks [L], smaller sets first."""
    choices = itertools.product((False, True), repeat=length)
    masks = [torch.tensor(bits) for bits in choices]
    return sorted(masks, key=lambda mask: int(mask.sum()))


def scores_by_size(model: TabularModel) -> Tensor:
    """Compute S̄_m, the mean over masked sets of m tokens of Σ_{d masked} log π_θ(o_d | rest) [L + 1, V^L]; S̄_0 is 0.

    The ELBO is Σ_{m ≥ 1} S̄_m/m, and g(t) of GDPO is Σ_m Binomial(L, t)(m) · S̄_m/t.
    """
    responses, length = all_responses(model), model.length
    total = torch.zeros(length + 1, len(responses))
    count = torch.zeros(length + 1, 1)
    for masked in subsets(length):
        size = int(masked.sum())
        total[size] += (conditional(model, responses, ~masked) * masked).sum(1)
        count[size] += 1
    return total / count


def log_likelihood(model: TabularModel) -> Tensor:
    """Compute the exact log p_θ(o) = log E_σ Π_d π_θ(o_σd | o_σ<d) of every response [V^L], σ uniform over orders."""
    # Dynamic programming over sets of revealed positions instead of L! orders: reached[S] is the log-probability
    # that the first |S| positions of σ are S and their tokens those of o. Smaller sets come first, so each entry is
    # final when it is read.
    responses = all_responses(model)
    length = model.length
    nothing = (False,) * length
    everything = (True,) * length
    reached = {nothing: torch.zeros(len(responses))}
    for seen in subsets(length)[:-1]:
        before = reached[tuple(seen.tolist())]
        # The next position is uniform over those that are still masked.
        masked = (~seen).nonzero()[:, 0].tolist()
        log_choices = torch.log(torch.tensor(float(len(masked))))
        scores = conditional(model, responses, seen) - log_choices
        for position in masked:
            after = seen.clone()
            after[position] = True
            key = tuple(after.tolist())
            value = before + scores[:, position]
            if key in reached:
                value = torch.logaddexp(reached[key], value)
            reached[key] = value
    return reached[everything]


def target(log_reference: Tensor, reward: Tensor, alpha: float) -> Tensor:
    """Return log p* of every response [V^L], with p* ∝ p_ref · exp(r/α)."""
    return torch.log_softmax(log_reference + reward / alpha, dim=0)


def random_modes(responses: int, modes: int, generator: torch.Generator) -> Tensor:
    """Draw a reward vector [responses]: 1 on `modes` random responses, 0 elsewhere."""
    reward = torch.zeros(responses)
    shuffled = torch.randperm(responses, generator=generator)
    reward[shuffled[:modes]] = 1.0
    return reward


def share_covered(log_target: Tensor, log_p: Tensor, modes: Tensor) -> float:
    """Return the share of modes [V^L, bool] that have at least half of their probability under p*."""
    half_of_target = log_target - math.log(2)
    covered = log_p >= half_of_target
    return float(covered[modes].float().mean())


def kl(log_p: Tensor, log_q: Tensor) -> float:
    """Return KL(p ‖ q) in nats."""
    terms = log_p.exp() * (log_p - log_q)
    return float(terms.sum())


def entropy(log_p: Tensor) -> float:
    """Return the entropy of p in nats."""
    terms = log_p.exp() * log_p
    return float(-terms.sum())
