"""Our policies as a model of the lm-evaluation-harness: `--model unmask` runs any of its tasks on them.

Needs `pip install -e '.[lm-eval]'`. Generation decodes in blocks as everywhere here. The log-likelihood of a
continuation o after a context q is the ELBO, the mean over K masked copies in antithetic pairs:
(L + 1)/m Σ_{d ∈ M} log π_θ(o_d | q, o_M̄) with |M| = m, a lower bound in expectation [DMPO, arXiv 2510.08233]. For a
single token it is exact.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from torch import Tensor

from unmask.common.errors import InputError
from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import TopK
from unmask.models.policy import Policy
from unmask.rl.likelihoods import Copies, denoising, draw_copies
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

Request = Any  # lm_eval's Instance; its `args` are the strings and settings of one question
SEQUENCES = 32  # rows of a forward pass that scores masked copies


@register_model("unmask")
class HarnessModel(LM):
    """A policy with the interface of the harness; `--model_args` are the arguments below, such as `model=…,copies=64`.

    `model` is the folder of the base model, `checkpoint` an adapter or all weights on it. `length` is the generation
    length unless a task gives `max_gen_toks`, which is rounded up to whole blocks. `copies` are masked copies per
    log-likelihood; more of them reduce its noise.
    """

    def __init__(
        self,
        model: str,
        checkpoint: str | None = None,
        length: int = 256,
        block_length: int = 32,
        tokens_per_step: int = 1,
        copies: int = 128,
        seed: int = 0,
        dtype: str = "auto",
        quantisation: str = "none",
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if copies < 2 or copies % 2:
            raise InputError(f"copies: {copies} is no even number from 2 on; antithetic copies come in pairs")
        if not str(batch_size).isdigit():
            raise InputError(f"--batch_size: {batch_size!r} is not supported; give a number")
        trained = None if checkpoint is None else Path(checkpoint)
        self.policy = Policy.load(Path(model), trained, device=device, dtype=dtype, quantisation=quantisation)
        self.policy.model.eval()
        self.length, self.block_length, self.tokens_per_step = length, block_length, tokens_per_step
        self.copies, self.seeds, self.rows = copies, Seeds(("lm_eval", seed)), int(batch_size)
        self._device = self.policy.model.device

    # --- text and chat template -----------------------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for the harness's cache of requests."""
        return str(self.policy.model.config.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the tokenizer's own template, the only one that the policy was trained with."""
        template: str = self.policy.tokenizer.chat_template
        return template

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation in the chat template."""
        text: str = self.policy.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            enable_thinking=False,  # as in `Tokenization.prompt_ids`
        )
        return text

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.policy.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def _prompt(self, ids: list[int], length: int) -> list[int]:
        """Return a prompt cut on the left to what the context leaves, and never empty."""
        room = self.policy.model.config.max_position_embeddings - length
        if room < 1:
            raise InputError(f"a response of {length} tokens does not fit the model's context; reduce the length")
        return ids[-room:] or [self.policy.eot]

    # --- generation -----------------------------------------------------------------------------------------------

    def generate_until(self, requests: list[Request]) -> list[str]:
        """Decode a response to each context and cut it at the first end token or stop string of the request."""
        groups: dict[tuple[int, float], list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            settings = request.args[1]
            length = self._whole_blocks(int(settings.get("max_gen_toks", self.length)))
            sampled = settings.get("do_sample", True)
            groups[length, float(settings.get("temperature", 0.0)) if sampled else 0.0].append(number)

        texts = [""] * len(requests)
        for (length, temperature), numbers in groups.items():
            contexts = [requests[number].args[0] for number in numbers]
            for number, text in zip(numbers, self._decoded(contexts, numbers, length, temperature), strict=True):
                context, settings = requests[number].args
                texts[number] = self._cut(text, settings.get("until") or [])
                self.cache_hook.add_partial("generate_until", (context, settings), texts[number])
        return texts

    def _whole_blocks(self, length: int) -> int:
        return -(-length // self.block_length) * self.block_length

    def _decoded(self, contexts: list[str], numbers: list[int], length: int, temperature: float) -> list[str]:
        prompts = [self._prompt(self._ids(context), length) for context in contexts]
        made = self._response(prompts, numbers, length, self.block_length, temperature, self.tokens_per_step)
        return self.policy.texts(made)

    def _response(
        self, prompts: list[list[int]], numbers: list[int], length: int, block: int, temperature: float, each: int
    ) -> Tensor:
        """Decode responses [B, L]; the draws of a request depend on its number alone."""
        prompt, mask = self.policy.pad(prompts)
        sampler = TopK(tokens_per_step=each, score="confidence")
        settings = DecodingSettings(length, block, sampler, temperature, rows_per_batch=self.rows)
        rows = torch.tensor(numbers, device=prompt.device)
        streams = self.seeds.streams("sampler", length, rows=rows)
        with self.policy.merged():
            return decode(self.policy.model, prompt, mask, settings, eot=self.policy.eot, streams=streams).response

    def _cut(self, text: str, until: list[str] | str) -> str:
        stops = [until] if isinstance(until, str) else list(until)
        for stop in [*self.policy.end_tokens, *stops]:
            if stop:
                text, _, _ = text.partition(stop)
        return text

    # --- log-likelihood -------------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Request]) -> list[tuple[float, bool]]:
        """Return the ELBO [nats] of each continuation, and whether greedy decoding from its context gives it.

        Greedy: one token a step, the most confident first, in a single block as long as the continuation.
        """
        found = []
        for number, request in enumerate(requests):
            context, continuation = request.args
            prompt, response = self._pair(context, continuation)
            value = self._elbo(prompt, response, number)
            greedy = self._response([prompt], [number], len(response), len(response), 0.0, 1)[0].tolist() == response
            found.append((value, greedy))
            self.cache_hook.add_partial("loglikelihood", (context, continuation), found[-1])
        return found

    def loglikelihood_rolling(self, requests: list[Request]) -> list[float]:
        """Return the ELBO [nats] of each text, in consecutive windows that each follow an end of text."""
        window = self.policy.model.config.max_position_embeddings - 1
        found = []
        for number, request in enumerate(requests):
            (text,) = request.args
            ids = self._ids(text)
            parts = [ids[start : start + window] for start in range(0, len(ids), window)]
            found.append(sum(self._elbo([self.policy.eot], part, number) for part in parts))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), found[-1])
        return found

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the tokens of context and continuation as they are next to each other."""
        # A space belongs to the word after it; tokenised apart, the two would be other tokens than together.
        bare = context.rstrip()
        continuation = context[len(bare) :] + continuation
        head = self._ids(bare)
        response = self._ids(bare + continuation)[len(head) :]
        if not response:
            raise InputError(f"the continuation {continuation!r} has no token; a task must not score empty text")
        return self._prompt(head, len(response)), response

    @torch.no_grad()
    def _elbo(self, prompt: list[int], response: list[int], number: int) -> float:
        """Return the ELBO of a response; the draws of a request depend on its number alone."""
        device = self.policy.model.device
        ids, mask = self.policy.pad([prompt])
        answer = torch.tensor([response], device=device)
        rows = torch.tensor([number], device=device)
        streams = self.seeds.streams("copies", rows=rows)
        copies: Copies = draw_copies(self.copies, len(response), "uniform", streams)
        terms = []
        with self.policy.merged():
            for start in range(0, self.copies, SEQUENCES):
                some = copies.select(slice(start, start + SEQUENCES))
                terms.append(denoising(self.policy.model, ids, mask, answer, some))
        return float(torch.cat(terms, 1).mean())
