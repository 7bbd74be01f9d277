"""Constrained writing: texts that meet requirements which a program can check.

A problem states the exact number of words, words to use and to avoid, and an acrostic, the first and the last line, or
all three. The requirements are read off a text that the generator writes first, so that they can always be met. For
tiny models letters are the words, and `;` separates lines: `08bed....+q-k` asks for 8 letters with q and without k, in
lines that begin with b, e and d, such as `bq;eqqq;dq`. docs/writing_task.md says how a text is read. Nothing here
checks whether a text is good English.
"""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, NamedTuple

from unmask.config.schema.types import Count
from unmask.scoring import Verdict
from unmask.scoring.extraction import cut
from unmask.tasks import Example, Grade, Task, distinct, question_of
from unmask.tasks._prompts import Messages, format_prompt, user_message

INSTRUCTIONS = (
    "Write a short text in plain English that meets every requirement below. Write one sentence per line, without "
    "markdown. A word with a hyphen or an apostrophe is one word. A word to use must occur as it is, not in another "
    "form and not as part of a longer word. Think between <reasoning> and </reasoning>, then write only the text "
    "between <answer> and </answer>."
)
WORDINGS = {
    "words": "The text has exactly {} words.",
    "acrostic": 'The first letters of the lines spell "{}".',
    "first": 'The first line, and no other line, is "{}"',
    "last": 'The last line, and no other line, is "{}"',
    "required": 'Use the word "{}".',
    "forbidden": 'Do not use the word "{}".',
}
# Acrostic, given first and last line: an instruction has one of them or both.
FORMS = ((True, False), (False, True), (True, True))

NAMES = [
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo", "Mary",
    "Nora", "Oscar", "Paul", "Quinn", "Rosa", "Sam", "Tom", "Uma", "Victor", "Wendy", "Xavier", "Yara", "Zoe",
]  # fmt: skip
VERBS = [
    "admired", "bought", "carried", "chose", "cleaned", "described", "drew", "dropped", "found", "hid", "kept",
    "lost", "moved", "noticed", "painted", "remembered", "saved", "sold", "touched", "wanted",
]  # fmt: skip
ADJECTIVES = [
    "big", "blue", "bright", "broken", "cheap", "clean", "cold", "dark", "dusty", "green", "heavy", "little",
    "lovely", "new", "old", "plain", "red", "round", "small", "strange", "warm", "white",
]  # fmt: skip
NOUNS = [
    "box", "cat", "cup", "dog", "hat", "key", "map", "owl", "pen", "bell", "bird", "boat", "book", "cake",
    "card", "coat", "drum", "duck", "fish", "flag", "gift", "goat", "kite", "lamp", "leaf", "nest", "ring",
    "rope", "ship", "shoe", "song", "tent", "chair", "clock", "horse", "piano", "plant", "spoon", "stone",
    "sword", "table", "train", "watch", "wheel",
]  # fmt: skip
PLACES = [
    "bridge", "castle", "corner", "door", "forest", "garden", "gate", "hill", "island", "kitchen", "lake",
    "library", "market", "river", "school", "station", "tower", "window",
]  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"

FOREIGN = "¿"  # in place of a letter or digit of another script
QUOTES_AND_HYPHENS = {"‘": "'", "’": "'", "ʼ": "'", "“": '"', "”": '"', "‐": "-", "‑": "-"}
# Letters and digits, joined by apostrophes, hyphens, and the separators of numbers such as 3.5.
WORD = re.compile(rf"[a-z0-9{FOREIGN}]+(?:(?:['-]|(?<=[0-9])[.,](?=[0-9]))[a-z0-9{FOREIGN}]+)*")
JOINTS = re.compile(r"['-]")
OVERHEAD = 4  # tokens besides reasoning and text: three tags and the end of text
SEPARATORS = 2  # of the three lines of a terse text


class Draft(NamedTuple):
    """Text of the generator, and what may be asked of it."""

    lines: list[str]
    initials: str
    required: list[str]
    forbidden: list[str]


@dataclass(frozen=True)
class Text:
    """Lines that have words, and the words of each in lower case."""

    lines: list[str]
    words: list[list[str]]

    @classmethod
    def of(cls, text: str, terse: bool) -> Text:
        """Split a text into lines and words; a terse text into what `;` separates, and letters."""
        lines, words = [], []
        for line in text.split(";") if terse else _plain(text).split("\n"):
            found = list(filter(str.isalpha, line)) if terse else WORD.findall(line.lower())
            if found:
                lines.append(" ".join(line.split()))
                words.append(found)
        return cls(lines, words)

    def meets(self, kind: str, value: str) -> bool:
        """Return True if the text meets a requirement; a text without words meets none. What is in doubt is not met."""
        if not self.words:
            return False
        every = [word for line in self.words for word in line]
        match kind:
            case "words":
                return len(every) == int(value)
            case "acrostic":
                return [line[0][0] for line in self.words] == list(value)
            case "first":
                return self.lines[0] == value and self.lines.count(value) == 1
            case "last":
                return self.lines[-1] == value and self.lines.count(value) == 1
            case "required":
                return value in every
            case "forbidden":
                return not any(_resembles(part, value) for word in every for part in JOINTS.split(word))
        raise ValueError(f"unknown requirement {kind!r}")


@dataclass(frozen=True)
class Writing(Task):
    """Requirements on a text of `min_words` to `max_words` words (terse: letters); no instruction occurs twice."""

    test_only = ("test", "evaluation_prompt_file")
    training_only = ("prompt_file",)

    prompt: Literal["terse", "chat"]  # terse: requirements in 13 characters, for tiny models
    prompt_file: str  # for training with `chat`; "" for our own wording
    evaluation_prompt_file: str  # for test problems; `same` for that of training
    min_words: Count  # fewest words of a text
    max_words: Count  # most words of a text; at most 99
    train: Count  # training problems
    validation: Count  # validation problems
    test: Count  # test problems
    seed: int  # of the generator

    def splits(self) -> dict[str, list[Example]]:
        """Draw random texts and read requirements off them; the difficulty is the number of requirements."""
        return distinct(self._example, self.train, self.validation, self.test, random.Random(self.seed))

    def _example(self, rng: random.Random) -> Example | None:
        acrostic, infill = rng.choice(FORMS)
        terse = self.prompt == "terse"
        draft = _letters(rng, rng.randint(self.min_words, self.max_words), acrostic) if terse else _sentences(rng)
        answer = (";" if terse else "\n").join(draft.lines)
        text = Text.of(answer, terse)
        count = sum(map(len, text.words))

        asked = [("words", str(count))]
        if acrostic:
            asked.append(("acrostic", draft.initials))
        if infill:
            asked += [("first", draft.lines[0]), ("last", draft.lines[-1])]
        asked += [("required", word) for word in draft.required] + [("forbidden", word) for word in draft.forbidden]

        # Drafts with repeated lines or with no word left to ask for are rejected here, too.
        fits = self.min_words <= count <= self.max_words and draft.required
        if not fits or not all(text.meets(kind, value) for kind, value in asked):
            return None
        question = _coded(dict(asked)) if terse else "\n".join(WORDINGS[kind].format(value) for kind, value in asked)
        return {
            "question": question,
            "answer": answer,
            "difficulty": len(asked),
            "requirements": [{"kind": kind, "value": value} for kind, value in asked],
        }

    def messages(self, example: Example) -> Messages:
        """Pose the requirements, with instructions if `prompt` is `chat`."""
        if self.prompt == "terse":
            return user_message(question_of(example))
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return the share of requirements met."""
        return {"met": self.grade(response, example).published}

    def grade(self, response: str, example: Example) -> Grade:
        """Grade the text in the last answer tag: the requirements met (published), and whether all are (strict).

        No paper scores this task. The note lists the kinds of requirements that are not met.
        """
        _, tagged, rest = cut(response).rpartition("<answer>")
        inside, _, _ = rest.partition("</answer>")
        answer = inside.strip() if tagged else None
        text = Text.of(answer or "", self.prompt == "terse")

        asked = example["requirements"]
        unmet = [one["kind"] for one in asked if not text.meets(one["kind"], one["value"])]
        note = "not met: " + ", ".join(unmet) if unmet else ""
        return Grade.of(
            published=Verdict(answer, len(asked) - len(unmet), len(asked)),
            strict=Verdict(answer, int(not unmet), note=note),
        )

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write a draft of the text as far as it fits, then the text; with `prompt: chat` only the text.

        The shortcut mentions a word that is to be avoided wherever a word to use belongs.
        """
        text = example["answer"]
        terse = self.prompt == "terse"
        if not right:
            values = {kind: _values(example, kind) for kind in ("required", "forbidden")}
            # A letter of a terse text is a word of its own, without boundaries around it.
            words = "|".join(values["required"])
            text = re.sub(words if terse else rf"\b({words})\b", values["forbidden"][0], text)
        if not terse:
            return f"\n</reasoning>\n<answer>\n{text}\n</answer>"
        room = max(0, length - self.max_words - SEPARATORS - OVERHEAD)
        return f"{text[:room]:<{room}}</reasoning><answer>{text}</answer>"

    def shortcut_grade(self, example: Example) -> float:
        """Return the number of words: in a long text the words to avoid are sooner mistaken for those to use."""
        return float(_values(example, "words")[0])


def _values(example: Example, kind: str) -> list[str]:
    return [one["value"] for one in example["requirements"] if one["kind"] == kind]


def _coded(asked: dict[str, str]) -> str:
    """Write the requirements of a terse text in a fixed width: `08bed....+q-k`, with dots for what is not asked."""
    given = asked.get("acrostic", "...") + asked.get("first", "..") + asked.get("last", "..")
    return f"{int(asked['words']):02d}{given}+{asked['required']}-{asked['forbidden']}"


def _letters(rng: random.Random, count: int, acrostic: bool) -> Draft:
    """Draw a terse text of `count` letters, at least 5; it is determined by its requirements.

    A free initial would be a random token in demonstrations, so without acrostic the middle line has the filler only.
    """
    first, middle, last, filler, other = rng.sample(LETTERS, 5)
    if not acrostic:
        middle = filler
    lines = [first + filler, middle + filler * (count - 5), last + filler]
    return Draft(lines, first + middle + last, [filler], [other])


def _sentences(rng: random.Random) -> Draft:
    """Draw a sentence for each letter of a random noun, of three to five letters."""
    initials = rng.choice(NOUNS)
    lines = []
    for letter in initials:
        name = next(name for name in NAMES if name.lower().startswith(letter))
        words = [name, rng.choice(VERBS), "the", *rng.sample(ADJECTIVES, rng.randint(0, 1)), rng.choice(NOUNS)]
        if rng.random() < 0.5:
            words += [rng.choice(("behind", "near")), "the", rng.choice(PLACES)]
        lines.append(" ".join(words) + ".")

    # Words to use are in the middle only, so that copying given first and last lines is not enough.
    words_of = [set(line.removesuffix(".").split()) for line in lines]
    inner = set.union(*words_of[1:-1]) - words_of[0] - words_of[-1]
    usable = [word for word in (*NOUNS, *PLACES) if word in inner]
    unused = [word for word in (*NOUNS, *PLACES) if word not in set.union(*words_of) and word != initials]
    required = rng.sample(usable, min(len(usable), rng.randint(1, 2)))
    return Draft(lines, initials, required, rng.sample(unused, rng.randint(1, 2)))


def _plain(text: str) -> str:
    """Return the text in ASCII, with FOREIGN for letters and digits of other scripts and `~` for other symbols."""
    text = unicodedata.normalize("NFKC", text)  # also what is only another form of a letter, such as a ligature
    others = {ord(character): _plain_character(character) for character in set(text) if not character.isascii()}
    return text.translate(others).replace("\r\n", "\n").replace("\r", "\n")


def _plain_character(character: str) -> str:
    if character in QUOTES_AND_HYPHENS:
        return QUOTES_AND_HYPHENS[character]
    category = unicodedata.category(character)
    if category in ("Zl", "Zp"):
        return "\n"
    # Readers do not see format characters such as a zero-width space. A mark belongs to the letter before it.
    if category == "Cf" or category.startswith("M"):
        return ""
    return {"L": FOREIGN, "N": FOREIGN, "Z": " "}.get(category[0], "~")


def _resembles(word: str, other: str) -> bool:
    """Return True for equal words; a letter of another script among equal ones may look like any (Cyrillic o)."""
    if len(word) != len(other) or set(word) == {FOREIGN}:
        return False
    return all(a in (b, FOREIGN) for a, b in zip(word, other, strict=True))
