"""Surrogates of log π_θ(o | q) for masked diffusion models: pure functions of a model, responses and mask draws.

The exact likelihood of a response is an average over all orders in which its tokens can be unmasked, which is
intractable for long responses. Each paper instead scores tokens with a few forward passes on chosen, partly masked
copies. The copies are drawn first and passed as data, so that the current, old and reference policy are scored on the
same ones.

Shapes: B responses, P prompt tokens, L response tokens, K masked copies. `prompt` [B, P] with `prompt_mask` [B, P]
(False on left padding), `response` [B, L].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.common.random_streams import Streams


def token_log_probs(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, noisy: Tensor, response: Tensor, scored: Tensor
) -> Tensor:
    """Compute log π_θ(response_d | prompt, noisy) [B, L] where `scored` [B, L] is True, 0 elsewhere.

    Takes one forward pass; the head is applied only at the scored positions.
    """
    hidden = response_states(model, prompt, prompt_mask, noisy)
    found = model.target_log_probs(hidden[scored], response[scored])
    everywhere = torch.zeros(response.shape, dtype=found.dtype, device=found.device)
    return everywhere.masked_scatter(scored, found)


def response_states(model: nn.Module, prompt: Tensor, prompt_mask: Tensor, noisy: Tensor) -> Tensor:
    """Compute the hidden states [B, L, D] of a partly masked response `noisy` [B, L], to which the head is applied."""
    # Columns that are padding in all rows are left out. Without other padding no mask is passed, which allows faster
    # attention kernels: a pass over responses to one prompt never has any.
    shortest, longest = 0, 0
    if prompt.shape[1]:
        sizes = prompt_mask.sum(1).aminmax()
        shortest, longest = torch.stack(sizes).tolist()
    padding = prompt.shape[1] - longest
    prompt, prompt_mask = prompt[:, padding:], prompt_mask[:, padding:]
    attention = None
    if shortest < longest:
        attention = F.pad(prompt_mask, (0, noisy.shape[1]), value=True)

    tokens = torch.cat((prompt, noisy), dim=1)
    response_columns = slice(prompt.shape[1], None)
    return model.hidden_states(tokens, attention, response_columns)


# --- negative ELBO ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copies:
    """K masked copies of each response and the weight of each copy in the ELBO."""

    masked: Tensor  # [B, K, L] bool
    weight: Tensor  # [B, K]

    def select(self, index: int | slice) -> Copies:
        """Return some copies of every response."""
        return Copies(self.masked[:, index], self.weight[:, index])


def draw_copies(
    copies: int,
    length: int,
    scheme: Literal["uniform", "bernoulli"],
    streams: Streams,
    antithetic: bool = True,
) -> Copies:
    """Draw K = `copies` masks [B, K, L] for responses of this length, each response from its own stream [B].

    With `antithetic`, copies 2j and 2j + 1 mask complementary sets.

    `uniform` [DMPO, eq. for the ELBO]: a uniform subset of uniform size m, weight L/m. Antithetic pairs draw m from
    {0..L} and have weight (L + 1)/m: a set and its complement then have the same distribution, and the estimate stays
    unbiased. `bernoulli` [released DMPO code]: λ ~ U(0.1, 1), each token iid with probability λ, weight L/m. It is
    biased, but less noisy at small m. An empty copy has weight 0.

    Raises ValueError for an odd number of antithetic copies.
    """
    if antithetic and copies % 2:
        raise ValueError(f"antithetic copies need an even number, not {copies}")

    # The second copy of a pair is the complement of the first, so only half of them are drawn.
    count = copies // 2 if antithetic else copies
    drawn = streams.uniform(count, length + 1)
    noise, share = drawn.split((length, 1), dim=-1)

    # A single copy has m ≥ 1, since an empty one says nothing. In a pair m = 0 occurs as the complement of a full mask;
    # m then has L + 1 equally likely values, and the nonempty copies get weight (L + 1)/m.
    if scheme == "uniform":
        if antithetic:
            size = (share * (length + 1)).long()
            total = length + 1
        else:
            size = (share * length).long() + 1
            total = length
        # Ranks of iid noise are a uniform permutation; the positions of the first `size` ranks are a uniform subset.
        rank = noise.argsort(-1).argsort(-1)
        masked = rank < size
    else:
        masked = noise < 0.1 + 0.9 * share
        total = length
    if antithetic:
        pairs = torch.stack((masked, ~masked), dim=2)
        masked = pairs.flatten(1, 2)
    count = masked.sum(-1)
    weight = torch.where(count > 0, total / count.clamp(min=1), 0.0)
    return Copies(masked, weight)


def draw_single_copies(length: int, learnt: Tensor | None, streams: Streams) -> Copies:
    """Draw one masked copy per response for SFT: t ~ U(0.001, 1), each token iid with probability t.

    Responses have L = `length` tokens and draw from their own one of the `streams` [B]. Only tokens in `learnt` [B, L]
    are masked and counted, all if it is None; the weight is 1 / (t · their number).
    """
    # t is bounded away from 0, because the loss is weighted by 1/t.
    drawn = streams.uniform(length + 1)
    noise, share = drawn.split((length, 1), dim=1)
    rate = 1e-3 + (1 - 1e-3) * share.float()
    masked = noise < rate
    if learnt is None:
        return Copies(masked[:, None], 1 / rate / length)
    masked = masked & learnt
    return Copies(masked[:, None], 1 / rate / learnt.sum(1, keepdim=True))


def copy_log_probs(
    model: nn.Module,
    prompt: Tensor,
    prompt_mask: Tensor,
    response: Tensor,
    masked: Tensor,
    scored: Tensor | None = None,
    prompt_drop: Tensor | None = None,
) -> Tensor:
    """Compute log π_θ(o_d | q, õ) of every token in each of K copies [B, K, L], 0 where it is not scored.

    `masked` [B, K, L] are the masked tokens of the copies; all of them are scored, or those in `scored` [B, K, L].
    `prompt_drop` [B, K, P] are masked prompt tokens.
    """
    # One row of a forward pass for each copy: the copies of a response follow one another.
    k = masked.shape[1]
    scored = masked if scored is None else scored
    mask_id = model.config.mask_token_id
    prompts = prompt.repeat_interleave(k, 0)
    if prompt_drop is not None:
        prompts = prompts.masked_fill(prompt_drop.flatten(0, 1), mask_id)
    prompt_masks = prompt_mask.repeat_interleave(k, 0)
    responses = response.repeat_interleave(k, 0)
    noisy = responses.masked_fill(masked.flatten(0, 1), mask_id)
    scores = token_log_probs(model, prompts, prompt_masks, noisy, responses, scored.flatten(0, 1))
    return scores.view(-1, k, response.shape[1])


def denoising(model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, copies: Copies) -> Tensor:
    """Compute the ELBO term of each masked copy [B, K]: weight · Σ_{d masked} log π_θ(o_d | q, õ)."""
    scores = copy_log_probs(model, prompt, prompt_mask, response, copies.masked)
    return scores.sum(-1) * copies.weight


def elbo(model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, copies: Copies) -> Tensor:
    """Estimate the ELBO [B] ≤ log π_θ(o | q) by the mean over the copies."""
    return denoising(model, prompt, prompt_mask, response, copies).mean(1)


# --- mean field -------------------------------------------------------------------------------------------------------


def draw_prompt_drop(prompt_mask: Tensor, probability: float, streams: Streams) -> Tensor:
    """Draw prompt tokens to mask [B, P], iid with `probability`, never padding; each row from its own stream."""
    # Counted from the end of the prompt, so that the padding on the left changes no draw.
    noise = streams.uniform(prompt_mask.shape[1]).flip(1)
    return (noise < probability) & prompt_mask


def mean_field(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, prompt_drop: Tensor | None = None
) -> Tensor:
    """Compute log π_θ(o_d | q') [B, L]: response fully masked, `prompt_drop` masked in the prompt [d1, section 3.2]."""
    mask_id = model.config.mask_token_id
    if prompt_drop is not None:
        prompt = prompt.masked_fill(prompt_drop, mask_id)
    everywhere = torch.ones_like(response, dtype=torch.bool)
    hidden_response = torch.full_like(response, mask_id)
    return token_log_probs(model, prompt, prompt_mask, hidden_response, response, everywhere)


# --- coupled ----------------------------------------------------------------------------------------------------------


def draw_coupled(length: int, streams: Streams, rows: int = 1) -> tuple[Tensor, Tensor]:
    """Draw mask ratios t ~ U(0.2, 0.8) [B] and the first mask of each pair [B, L], iid with probability t.

    Each row draws from its own stream, but each run of `rows` consecutive rows shares the ratio of the first.
    """
    drawn = streams.uniform(length + 1)
    noise, share = drawn.split((length, 1), dim=1)
    rate = 0.2 + 0.6 * share[::rows].float()
    rate = rate.repeat_interleave(rows, 0)[: len(streams)]
    return rate[:, 0], noise < rate


def coupled(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, rate: Tensor, first: Tensor
) -> Tensor:
    """Compute ½ [log π_θ(o_d | q) + w_d · log π_θ(o_d | q, pair)] per token [B, L] [DiffuCoder, section 4].

    The pair masks `first` [B, L] and its complement, so each token is scored in exactly one of the two passes; w_d is
    1/t where `first` masks the token and 1/(1 − t) elsewhere. Takes three forward passes.
    """
    mask_id = model.config.mask_token_id
    full = mean_field(model, prompt, prompt_mask, response)
    # Each token is scored in exactly one pass of the pair and is 0 in the other, so the results add up.
    pair = torch.zeros_like(full)
    for masked in (first, ~first):
        noisy = response.masked_fill(masked, mask_id)
        pair = pair + token_log_probs(model, prompt, prompt_mask, noisy, response, masked)
    rate = rate[:, None]
    weight = torch.where(first, 1 / rate, 1 / (1 - rate))
    return 0.5 * (full + weight * pair)


# --- along the trajectory of the sampler -----------------------------------------------------------------------------


def draw_stage(nfe: Tensor, streams: Streams) -> Tensor:
    """Draw a denoising step τ ~ U{0..T − 1} [B] for each response, T = `nfe` [B]."""
    step = (streams.uniform() * nfe).long()
    # The product may round up to T.
    last = (nfe - 1).clamp(min=0)
    return torch.minimum(step, last)


def two_stage(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, unmask_step: Tensor, tau: Tensor
) -> Tensor:
    """Compute the two-stage mean field [B, L] [DiFFPO, 2-MF]: one pass on the masked response, one on the latent z_τ.

    z_τ is the sampler's input at step τ, in which tokens committed before τ are visible. Those tokens are scored with
    the response fully masked, all others given z_τ. At τ = 0 this is the mean field.
    """
    mask_id = model.config.mask_token_id
    early = unmask_step < tau[:, None]
    nothing = torch.full_like(response, mask_id)
    # Each token is scored in exactly one of the two passes and is 0 in the other, so the results add up.
    latent = response.masked_fill(~early, mask_id)
    first = token_log_probs(model, prompt, prompt_mask, nothing, response, early)
    second = token_log_probs(model, prompt, prompt_mask, latent, response, ~early)
    return first + second


def trajectory(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, unmask_step: Tensor, scored: Tensor
) -> Tensor:
    """Compute the exact log-probability of each token in `scored` [B, L] given the tokens committed before its step.

    Takes T forward passes. If the sampler committed one token per step, the sum is log p_θ(o | q; σ) for its order σ.
    """
    mask_id = model.config.mask_token_id
    total = torch.zeros(response.shape, device=response.device)
    # Passes after the last scored token would score nothing.
    last = int(unmask_step[scored].max())
    for step in range(last + 1):
        committed = (unmask_step == step) & scored
        seen = response.masked_fill(unmask_step >= step, mask_id)
        total = total + token_log_probs(model, prompt, prompt_mask, seen, response, committed)
    return total
