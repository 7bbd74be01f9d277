"""s1K: 1,000 questions with reasoning traces and answers of a larger model (simplescaling/s1K, arXiv 2501.19393).

The corpus of d1's SFT stage. A response is the first trace between reasoning tags and the attempt between answer tags.
The released code shuffles the rows with seed 42 and holds out the first hundredth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from unmask.config.schema.types import Fraction, Stored
from unmask.tasks import Corpus, Example
from unmask.tasks._columns import column, preview, statement, text
from unmask.tasks._files import Row
from unmask.tasks._prompts import Messages, format_prompt
from unmask.tasks._sources import place_of, read_examples
from unmask.tasks._stored import Splits, problem, repeats

INSTRUCTIONS = (
    "Answer the question. Write your reasoning between <reasoning> and </reasoning>, then the answer between <answer> "
    "and </answer>."
)


@dataclass(frozen=True)
class S1k(Corpus):
    """Questions with a reasoning trace and an answer; no test problems."""

    train_source: Stored  # of the rows
    validation: Fraction  # share of the rows that is held out
    seed: int  # of the shuffle; 42 in the released code
    prompt_file: str  # "" for our own wording

    def splits(self) -> dict[str, list[Example]]:
        """Shuffle the rows and return the first of them as the validation split, the others as the training split."""
        # Repeated questions are reported but kept: without them the shuffle would not be that of the released code.
        examples = read_examples(self.train_source, "train", _example)
        repeated = repeats(examples, problem, place_of(self.train_source, "train"))
        random.Random(self.seed).shuffle(examples)
        kept_back = int(len(examples) * self.validation)
        made = {"train": examples[kept_back:], "validation": examples[:kept_back], "test": []}
        return Splits(made, [repeated])

    def messages(self, example: Example) -> Messages:
        """Pose the question below the instructions."""
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Return the trace and the answer between tags, regardless of `length`."""
        return f"<reasoning>{example['reasoning']}</reasoning>\n<answer>{example['answer']}</answer>"


def _example(row: Row) -> Example:
    """Parse a row in the published layout: `question`, `attempt`, and `thinking_trajectories`, a list of texts."""
    traces = column(row, "thinking_trajectories")
    if not isinstance(traces, list) or not traces:
        raise ValueError(f"thinking_trajectories is {preview(traces)}, not a list with a text in it")
    # Wrapped as a row so that an error of `text` names the column.
    reasoning = text({"thinking_trajectories": traces[0]}, "thinking_trajectories")
    return {
        "question": statement(row, "question"),
        "answer": text(row, "attempt"),
        "difficulty": 0,
        "reasoning": reasoning,
    }
