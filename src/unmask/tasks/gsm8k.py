r"""GSM8K: grade-school word problems with a number as the answer (openai/gsm8k, Cobbe et al. 2021).

The corrected reward has the same parts as d1's and DMPO's, without their quirks. The released functions compare the
text of the answer tag with the gold text, so "18.00" and "$18" are wrong; they penalise every character after the end
twice, or the whole response if no line break follows the closing tag; and they recognise no format in a response whose
reasoning has a line break.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction

from unmask.config.schema.types import Count, Rewards, Stored
from unmask.scoring import published, released, strict
from unmask.scoring.extraction import cut
from unmask.tasks import Example, Grade, Task, stored_solution
from unmask.tasks._columns import preview, statement, text
from unmask.tasks._files import Row
from unmask.tasks._prompts import Messages, format_prompt
from unmask.tasks._stored import stored_splits

INSTRUCTIONS = (
    "Solve this word problem step by step. Write your reasoning between <reasoning> and </reasoning>, each tag on a "
    "line of its own. After that write the result, a single number without unit or separators, between <answer> and "
    "</answer>, again on lines of their own."
)
TAGS = released.TAGS
QUESTION = "question"  # column of the published files
GOLD = re.compile(r"-?[0-9]{1,3}(,?[0-9]{3})*(\.[0-9]+)?|-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Gsm8k(Task):
    """Word problems whose answer is one number."""

    # `test_source` also affects the training split: test problems are removed from it.
    test_only = ("evaluation_prompt_file",)
    training_only = ("train_source", "validation", "seed", "prompt_file")
    reward_only = ("rewards",)

    train_source: Stored  # of training and validation problems
    test_source: Stored  # of test problems
    validation: Count  # training problems held out to select checkpoints
    seed: int  # of the split
    prompt_file: str  # for training; "" for our own wording
    evaluation_prompt_file: str  # for test problems; `same` for that of training
    rewards: Rewards  # reward function: ours, or that of a released code

    def splits(self) -> dict[str, list[Example]]:
        """Return the published splits, with some of the training problems as the validation split."""
        return stored_splits(
            self.train_source,
            self.test_source,
            _example,
            self.validation,
            self.seed,
            _same,
        )

    def messages(self, example: Example) -> Messages:
        """Pose the problem below the instructions."""
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return up to 4.0: 0.125 per tag, 0.5 each for loose format, exact format and whole number, 2.0 if correct."""
        # The prefill is part of the prompt, but the format parts check the complete text.
        text = self.prefill + cut(response)
        if self.rewards.startswith("released"):
            return released.gsm8k(text, example["answer"])

        # Unlike the released code: the length penalty counts a character once, and line breaks inside the blocks do not
        # cost the format parts.
        _, _, inside = text.rpartition("<answer>")
        answer, _, _ = inside.partition("</answer>")
        tags = sum(text.count(tag) == 1 for tag in TAGS)
        is_whole_number = re.fullmatch("[0-9]+", answer.strip()) is not None
        verdict = strict.gsm8k(text, _number(example))
        return {
            "tags": 0.125 * tags - _tail(text),
            "loose_format": 0.5 * is_loose(text),
            "exact_format": 0.5 * is_exact(text.rstrip() + "\n"),
            "whole_number": 0.5 * is_whole_number,
            "correct": 2.0 * verdict.correct,
        }

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Return the worked solution without its calculator annotations, then the number without separators."""
        reasoning = re.sub("<<.*?>>", "", stored_solution(self, example, right))
        number = example["answer"].replace(",", "")
        return f"\n{reasoning}\n</reasoning>\n<answer>\n{number}\n</answer>"

    def grade(self, response: str, example: Example) -> Grade:
        """Score the number under both protocols."""
        gold = _number(example)
        return Grade.of(published.gsm8k(response, gold), strict.gsm8k(response, gold))


def is_loose(text: str) -> bool:
    """Return True if the text begins with a reasoning block and an answer block follows."""
    found = re.search(r"</reasoning>\s*<answer>", text)
    if found is None or not text.startswith("<reasoning>"):
        return False
    return "</answer>" in text[found.end() :]


def is_exact(text: str) -> bool:
    """Return True if the text is a reasoning block and an answer block only, each tag on its own line."""
    begins, _, rest = text.partition("<reasoning>\n")
    _, joined, answer = rest.partition("\n</reasoning>\n<answer>\n")
    return not begins and bool(joined) and answer.endswith("\n</answer>\n")


def _tail(text: str) -> float:
    """Return the length penalty: 0.001 per character after the answer."""
    if text.count("\n</answer>") != 1:
        return 0.0
    _, _, after = text.partition("\n</answer>")
    return 0.001 * len(after.strip())


def _number(example: Example) -> float:
    return float(example["answer"].replace(",", ""))


def _same(gold: str, other: str) -> bool:
    """Return True if two gold answers are the same number: `1,000` and `1000.0`."""
    number = Fraction(gold.replace(",", ""))
    other_number = Fraction(other.replace(",", ""))
    return number == other_number


def _example(row: Row) -> Example:
    """Parse a row; the gold number follows `####`, and the difficulty is the count of calculator annotations `<<…>>`.

    Raises ValueError if there is no number.
    """
    solution, _, gold = text(row, "answer").rpartition("####")
    gold = gold.strip()
    if not GOLD.fullmatch(gold):
        question = preview(row.get(QUESTION))
        raise ValueError(f"no number after #### in the answer to {question}")
    return {
        "question": statement(row, QUESTION),
        "answer": gold,
        "difficulty": solution.count("<<"),
        "solution": solution.strip(),
    }
