"""Textbook decoding and losses, straight from the papers' pseudo-code and independent of `unmask.samplers`.

The fast engine is tested and timed against this code, so it does the same work as the released implementations, no less
and no more; nothing is slowed down on purpose. Costs for B rows of T columns and vocabulary V:

- `forward` applies the head to every column it is given: logits [B, T, V] in the model's dtype.
- `decode` draws a token at every column by Gumbel-max in float64 (unless the temperature is 0) and computes a softmax
  in float64: three to four tensors [B, T, V] of 8 bytes are alive at once.
- Positions are chosen in a Python loop over the rows. Each iteration copies numbers to the host a few times.
- Rows run in lockstep: all have equally long prompts, and the batch continues until its last row is done.
- The losses keep logits and log-probabilities [B R, L, V] for the backward pass.

Sources: LLaDA (arXiv 2502.09992) algorithm 5, Fast-dLLM (arXiv 2505.22618) algorithm 1, the EB-Sampler
(arXiv 2505.24857) algorithm 1, DMPO (arXiv 2510.08233) sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = list[tuple[Tensor, Tensor]]  # rotated keys and values [B, H, T, d] of the whole sequence, one pair a layer

# --- the model --------------------------------------------------------------------------------------------------------


def forward(model: nn.Module, ids: Tensor, first: int = 0, cache: Cache | None = None) -> tuple[Tensor, Cache]:
    """Return the logits [B, t, V] of tokens `ids` [B, t] at columns first … first + t − 1, and the updated cache.

    With a cache, the tokens also attend to all columns that they do not replace.
    """
    x = model.model.embed_tokens(ids)
    seen: Cache = []
    for index, layer in enumerate(model.model.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(x)
        query, key, value = (
            project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = rotate(query, first, model.config), rotate(key, first, model.config)
        # Cached keys are stale approximations of the other columns, as in Fast-dLLM; fresh ones replace their columns.
        if cache is not None:
            old_key, old_value = cache[index]
            after = first + ids.shape[1]
            key = torch.cat((old_key[:, :, :first], key, old_key[:, :, after:]), dim=2)
            value = torch.cat((old_value[:, :, :first], value, old_value[:, :, after:]), dim=2)
        seen.append((key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)  # bidirectional: no mask
        x = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return model.lm_head(model.model.norm(x)), seen


def rotate(x: Tensor, first: int, config: Any) -> Tensor:
    """Apply the rotary position embedding to x [B, H, t, d], whose columns begin at `first`; computed in fp32."""
    half = config.head_dim // 2
    speed = config.rope_parameters["rope_theta"] ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(first, first + x.shape[2], device=x.device)[:, None] * speed
    left, right = x[..., :half].float(), x[..., half:].float()
    turned = (left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin())
    return torch.cat(turned, dim=-1).to(x.dtype)


# --- which tokens to commit -------------------------------------------------------------------------------------------


def choose(sampler: dict[str, Any], probability: Tensor, token: Tensor, generator: torch.Generator) -> list[int]:
    """Choose, by `probability` [n, V] at T = 1, which of n masked positions commit their `token` [n]; at least one."""
    rule, n = sampler["rule"], len(token)
    if rule == "random_order" or sampler.get("score") == "random":
        return torch.randperm(n, generator=generator, device=token.device)[: sampler.get("tokens_per_step", 1)].tolist()
    if rule == "left_to_right":
        return [0]  # masked positions are given in order
    confidence = probability.gather(1, token[:, None])[:, 0].tolist()
    best_first = sorted(range(n), key=lambda i: -confidence[i])
    if rule == "top_k":
        return best_first[: sampler["tokens_per_step"]]
    if rule == "threshold":
        return [i for i in best_first if confidence[i] >= sampler["confidence"]] or best_first[:1]
    # Fast-dLLM's factor rule: the largest k with (k + 1)(1 − c_k) < f for the k-th highest confidence c_k.
    if rule == "factor":
        counts = [k for k in range(1, n + 1) if (k + 1) * (1 - confidence[best_first[k - 1]]) < sampler["factor"]]
        return best_first[: max(counts, default=1)]
    if rule == "entropy_bound":
        return entropy_bound(probability, sampler["gamma"], sampler["proxy"])
    raise ValueError(f"unknown rule {rule}")


def entropy_bound(probability: Tensor, gamma: float, proxy: Literal["entropy", "confidence", "margin"]) -> list[int]:
    """Return the largest set U of positions, in order of the error proxy, with Σ_U H − max_U H ≤ γ for γ ≥ 0."""
    entropy = torch.special.entr(probability).sum(-1).tolist()
    best, second = probability.topk(2).values.T.tolist()
    error = {
        "entropy": entropy,
        "confidence": [1 - p for p in best],
        "margin": [1 - (p - q) for p, q in zip(best, second, strict=True)],
    }[proxy]
    # A single position always satisfies the bound, because its sum equals its maximum.
    order = sorted(range(len(error)), key=lambda i: error[i])
    kept = [entropy[i] for i in order]
    return order[: max(k for k in range(1, len(order) + 1) if sum(kept[:k]) - max(kept[:k]) <= gamma)]


# --- decoding ---------------------------------------------------------------------------------------------------------


@dataclass
class Record:
    """Responses and the record of their decoding, as in `unmask.samplers.decode.Completions`."""

    response: Tensor  # [B, L] token ids
    unmask_step: Tensor  # [B, L] the forward pass of the row, from 0, that committed each token
    log_prob_t1: Tensor  # [B, L] log-probability of each token when it was drawn, at temperature 1
    nfe: Tensor  # [B] forward passes that the row needed; with guidance a pair counts as one


@torch.no_grad()
def decode(
    model: nn.Module,
    prompt: Tensor,
    *,
    length: int,
    block_length: int,
    sampler: dict[str, Any],
    temperature: float,
    eot: int,
    generator: torch.Generator,
    cache: Literal["none", "prefix", "dual"] = "none",
    guidance: float = 0.0,
    forbidden: tuple[int, ...] = (),
) -> Record:
    """Decode `length` tokens, a multiple of `block_length`, for each row of `prompt` [B, P], which has no padding."""
    rows, width = prompt.shape
    mask_id, device = model.config.mask_token_id, prompt.device
    # `response` is a view of `ids`: committing a token changes the input of the next pass.
    ids = torch.cat((prompt, torch.full((rows, length), mask_id, device=device)), dim=1)
    real = torch.zeros((rows, length), dtype=torch.float64, device=device)
    count = torch.zeros((rows, length), dtype=torch.long, device=device)
    made = Record(ids[:, width:], count, real, count[:, 0].clone())
    for begin in range(width, width + length, block_length):
        end = begin + block_length
        # Caches are rebuilt at the start of each block.
        caches = None
        while bool((made.response[:, begin - width : end - width] == mask_id).any()):
            first = 0 if caches is None else begin
            last = end if caches is not None and cache == "dual" else width + length
            logits, seen = guided(model, ids[:, first:last], first, caches, width, guidance)
            if cache != "none" and caches is None:
                caches = seen  # for the later passes of this block

            # [MASK] and forbidden tokens must never be drawn.
            logits = logits.double()
            logits[..., [mask_id, *forbidden]] = -torch.inf
            token = gumbel_max(logits, temperature, generator)
            probability = logits.softmax(-1)
            for row in range(rows):
                masked = (ids[row, begin:end] == mask_id).nonzero()[:, 0] + begin
                if len(masked) == 0:
                    continue
                here = masked - first
                kept = choose(sampler, probability[row, here], token[row, here], generator)
                commit(made, row, masked[kept] - width, logits[row, here[kept]], token[row, here[kept]])
                made.nfe[row] += 1

        # A row that has ended is filled with end of text: no later block is decoded for it.
        for row in range(rows):
            if bool((ids[row, begin:end] == eot).any()):
                made.unmask_step[row, end - width :].masked_fill_(ids[row, end:] == mask_id, made.nfe[row])
                ids[row, end:] = eot
    return made


def guided(
    model: nn.Module, ids: Tensor, first: int, caches: list[Cache] | None, width: int, guidance: float
) -> tuple[Tensor, list[Cache]]:
    """Return (1 + w) · conditional − w · unconditional logits, the latter with a masked prompt [LLaDA, equation 16]."""
    logits, seen = forward(model, ids, first, caches and caches[0])
    if guidance == 0:
        return logits, [seen]
    nothing = ids.clone()
    nothing[:, : max(width - first, 0)] = model.config.mask_token_id
    blind, blind_seen = forward(model, nothing, first, caches and caches[1])
    return (1 + guidance) * logits - guidance * blind, [seen, blind_seen]


def gumbel_max(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw a token from softmax(logits / T) for logits [B, t, V] in float64; the most probable one at T = 0."""
    if temperature == 0:
        return logits.argmax(-1)
    # argmax(logits − T log(−log u)) has the law of softmax(logits / T) and needs no normalisation.
    noise = torch.rand(logits.shape, dtype=torch.float64, generator=generator, device=logits.device)
    return (logits - temperature * noise.log_().neg_().log_()).argmax(-1)


def commit(made: Record, row: int, where: Tensor, logits: Tensor, token: Tensor) -> None:
    """Write `token` [k], drawn from `logits` [k, V], at the positions `where` [k] of a row, with its record."""
    made.response[row, where] = token
    made.unmask_step[row, where] = made.nfe[row]
    made.log_prob_t1[row, where] = logits.log_softmax(-1).gather(1, token[:, None])[:, 0]


# --- losses -----------------------------------------------------------------------------------------------------------


def masked_log_probs(model: nn.Module, prompt: Tensor, response: Tensor, masked: Tensor) -> Tensor:
    """Compute log π_θ(o_d | q, õ_r) [B, R, L] in one forward pass; 0 where `masked` [B, R, L] is False."""
    copies = masked.shape[1]
    prompt, response = (x.repeat_interleave(copies, 0) for x in (prompt, response))
    hidden = masked.flatten(0, 1)
    noisy = response.masked_fill(hidden, model.config.mask_token_id)
    logits = forward(model, torch.cat((prompt, noisy), dim=1))[0][:, prompt.shape[1] :]

    # [MASK] is excluded before normalisation: π_θ gives it probability zero.
    never = torch.arange(logits.shape[-1], device=logits.device) == model.config.mask_token_id
    log_p = logits.float().masked_fill(never, -torch.inf).log_softmax(-1).gather(-1, response[..., None])[..., 0]
    return torch.where(hidden, log_p, 0).view(masked.shape)


def elbo(model: nn.Module, prompt: Tensor, response: Tensor, masked: Tensor) -> Tensor:
    """Estimate the ELBO [B] by Monte Carlo: the mean over copies of (L/m) Σ_{d masked} log π_θ(o_d | q, õ)."""
    # A copy may mask no token at all; its sum is 0 whatever the weight.
    share = masked.shape[2] / masked.sum(-1).clamp(min=1)
    return (share * masked_log_probs(model, prompt, response, masked).sum(-1)).mean(1)


def wdce(model: nn.Module, prompt: Tensor, response: Tensor, masked: Tensor, weight: Tensor) -> Tensor:
    """Compute DMPO's loss, the mean over responses of w · (1/R) Σ_r (1/m_r) Σ_{d masked} −log π_θ(o_d | q, õ_r)."""
    return -(weight * elbo(model, prompt, response, masked)).mean() / response.shape[1]
