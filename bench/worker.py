"""Worker process for one side of one benchmark cell: prepares its work once, then runs it on request from stdin.

The request `check` runs the work at temperature 0 and returns its result and host synchronisations; `time` runs it at
the job's temperature and returns the CPU seconds. Every answer is a line of JSON that includes the peak memory so far.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import released_code
import textbook
from syncs import HostSyncs
from unmask.common.random_streams import Streams
from unmask.config.schema.samplers import sampler_from
from unmask.models.policy import Policy
from unmask.models.tiny import build_model
from unmask.rl.likelihoods import Copies, denoising, elbo
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

LORA = {"rank": 16, "alpha": 16, "dropout": 0.0, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"], "seed": 0}
Work = Callable[[float], dict[str, Tensor]]  # temperature -> result


def decoding(side: str, job: dict[str, Any], model: torch.nn.Module, generator: torch.Generator) -> Work:
    """Return the work of decoding full responses to random prompts of one length, `slots` rows at a time."""
    prompt = torch.randint(2, job["vocabulary"], (job["rows"], job["prompt"]), generator=generator)
    length, block, eot = job["length"], job["block"], job["eot"]
    sampler = {"rule": "top_k", "tokens_per_step": job["tokens_per_step"], "score": "confidence"}

    # The engine takes all rows and refills its slots as rows end; the textbook decodes batches of that many rows.
    def ours(temperature: float) -> Any:
        mask = torch.ones_like(prompt, dtype=torch.bool)
        sampler_with_cache = sampler_from(sampler | {"cache": job["cache"]})
        settings = DecodingSettings(length, block, sampler_with_cache, temperature, rows_per_batch=job["slots"])
        streams = Streams.of(0, torch.arange(len(prompt)))
        return [decode(model, prompt, mask, settings, eot=eot, streams=streams)]

    def theirs(temperature: float) -> Any:
        settings = {"length": length, "block_length": block, "sampler": sampler, "temperature": temperature}
        settings |= {"eot": eot, "generator": generator, "cache": job["cache"]}
        return [textbook.decode(model, batch, **settings) for batch in prompt.split(job["slots"])]

    if side == "released":
        decode_released = released_code.decoder(Path(job["released"]), job, model)
        # It does not say in which step a token was committed.
        return lambda temperature: {"response": decode_released(prompt, temperature)}

    def run(temperature: float) -> dict[str, Tensor]:
        parts = (ours if side == "ours" else theirs)(temperature)
        return {name: torch.cat([getattr(p, name) for p in parts]) for name in ("response", "unmask_step", "nfe")}

    return run


def likelihoods(side: str, job: dict[str, Any], model: torch.nn.Module, generator: torch.Generator) -> Work:
    """Return the work of the DMPO loss with gradient, of the ELBO under policy and reference, or of the body only."""
    model.activation_checkpointing = side == "ours" and job.get("checkpointing", False)
    if side == "released":
        theirs = released_code.their_model(Path(job["released"]), model)
    policy = Policy(model, None)
    policy.make_trainable(**LORA)
    # LoRA's B starts at zero, which would make policy and reference equal and half of the gradients zero.
    for parameter in policy.trainable().values():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    trained = list(policy.trainable().values())
    rows, length = job["rows"], job["length"]
    prompt = torch.randint(2, job["vocabulary"], (rows, job["prompt"]), generator=generator)
    response = torch.randint(2, job["vocabulary"], (rows, length), generator=generator)
    half = torch.rand((rows, 1, length), generator=generator) < 0.4
    masked = torch.cat((half, ~half), 1)  # an antithetic pair: together they mask each token once
    weight = torch.linspace(1.5, -0.5, rows)
    # The released code draws its own copies.
    if "released" in job:
        masked = released_code.masks(rows, length)
    if side == "released":
        theirs, trained = released_code.with_adapter(theirs, LORA, policy.trainable())
        their_loss = released_code.loss(Path(job["released"]), prompt, response, weight)

    parts = [slice(i, i + 1) for i in range(rows)]
    single = [slice(i, i + 1) for i in range(masked.shape[1])]  # with micro_batch_size: 1, each masked copy is one pass

    def inputs(part: slice) -> tuple[Tensor, ...]:
        return prompt[part], torch.ones_like(prompt[part], dtype=torch.bool), response[part]

    def log_likelihood() -> Tensor:
        if side == "textbook":
            return textbook.elbo(model, prompt, response, masked)
        terms = []
        for part, some in itertools.product(parts, single):
            copies = Copies(masked[part, some], length / masked[part, some].sum(-1))
            terms.append(elbo(model, *inputs(part), copies))
        return torch.stack(terms).view(rows, -1).mean(1)

    def losses() -> Iterator[Tensor]:
        """Yield terms whose sum is the loss; each is differentiated before the next is formed, to free its memory."""
        if side == "textbook":
            yield textbook.wdce(model, prompt, response, masked, weight)
            return
        if side == "released":
            yield their_loss(theirs)
            return
        for part, some in itertools.product(parts, single):
            copies = Copies(masked[part, some], 1 / masked[part, some].sum(-1))
            yield -(weight[part] * denoising(model, *inputs(part), copies).mean(1)).sum() / (rows * len(single))

    def run_loss(_: float) -> dict[str, Tensor]:
        total = torch.zeros(())
        for term in losses():
            term.backward()
            total += term.detach()
        gradients = [p.grad.norm() for p in trained]
        for parameter in trained:
            parameter.grad = None
        return {"loss": total[None], "gradient": torch.stack(gradients)}

    def run_body(_: float) -> dict[str, Tensor]:
        """Run forward and backward of the body only on the textbook side, and the full loss on ours."""
        if side == "ours":
            run_loss(0.0)
            return {}
        for part, _ in itertools.product(parts, single):
            model.hidden_states(torch.cat((prompt[part], response[part]), 1), None).sum().backward()
        model.zero_grad(set_to_none=True)
        return {}

    @torch.no_grad()
    def run_elbo(_: float) -> dict[str, Tensor]:
        current = log_likelihood()
        with policy.reference():
            return {"current": current, "reference": log_likelihood()}

    return {"loss": run_loss, "elbo": run_elbo, "body": run_body}[job["work"]]


def peak() -> float:
    """Return the peak resident memory of this process so far [MB]."""
    # ru_maxrss is in bytes on macOS, in kilobytes on Linux.
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if sys.platform == "darwin" else size / 2**10


@contextlib.contextmanager
def counted_passes(model: torch.nn.Module) -> Any:
    """Count the forward passes of the body within the block; yields a list with the count."""
    count = [0]

    def add(*_: Any) -> None:
        count[0] += 1

    # Neither side calls the body as a module, but both call the norm of its first layer once per pass.
    handle = model.model.layers[0].input_layernorm.register_forward_hook(add)
    yield count
    handle.remove()


def main() -> None:
    """Prepare the work, then answer requests line by line."""
    side, job = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    model = build_model(**job["body"], vocabulary=job["vocabulary"], seed=0).eval().requires_grad_(False)
    if "released" in job:
        released_code.without_mask_token(model)
    run = (decoding if job["work"] == "decoding" else likelihoods)(side, job, model, generator)

    # Reported memory is what the work adds to the loaded model. The released model is a copy of ours, which stays.
    baseline = peak()
    for line in sys.stdin:
        answer = {}
        # Counting intercepts every torch call, which costs time, so only `check` does it.
        if line.strip() == "check":
            with counted_passes(model) as passes, HostSyncs() as syncs:
                result = run(0.0)
            answer = {"syncs": dict(syncs.calls), "passes": passes[0]}
            answer["result"] = {name: values.tolist() for name, values in result.items()}
        else:
            start = time.process_time()
            run(job["temperature"])
            answer["seconds"] = time.process_time() - start
        print(json.dumps({**answer, "megabytes": peak() - baseline}), flush=True)


if __name__ == "__main__":
    main()
