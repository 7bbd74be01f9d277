"""Constrained writing: hand-made texts with verdicts by hand, and instructions that can always be met."""

import random
import re
import time
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.tasks import load
from unmask.tasks.writing import ADJECTIVES, NAMES, NOUNS, PLACES, VERBS

SIZES = {"train": 300, "validation": 50, "test": 50, "seed": 0, "prompt_file": "", "evaluation_prompt_file": "same"}
CHAT = load("writing", SIZES | {"prompt": "chat", "min_words": 15, "max_words": 40})
TERSE = load("writing", SIZES | {"prompt": "terse", "min_words": 6, "max_words": 12})
TASKS = {"chat": CHAT, "terse": TERSE}
EXAMPLES = {prompt: task.splits() for prompt, task in TASKS.items()}

A, B, C = "Tom found the map.", "Ida hid the boat.", "Paul kept the key near the lake."
RIGHT = f"{A}\n{B}\n{C}"


def asked(**values):
    """An example with these requirements."""
    rows = [{"kind": kind, "value": value} for kind, value in values.items()]
    return {"question": "?", "answer": "", "difficulty": len(rows), "requirements": rows}


ENGLISH = asked(words="15", acrostic="tip", first=A, last=C, required="boat", forbidden="lamp")
ALL = "words acrostic first last required forbidden"


def unmet(task, response, example):
    """Kinds that a response does not meet; reward and both verdicts have to agree with them."""
    grade = task.grade(response, example)
    kinds = grade.note.removeprefix("not met: ").split(", ") if grade.note else []
    count = len(example["requirements"])
    assert grade.points == count
    assert grade.published == sum(task.reward(response, example).values()) == (count - len(kinds)) / count
    assert grade.strict == (not kinds)
    return " ".join(kinds)


def with_b(line):
    return f"{A}\n{line}\n{C}"


TEXTS = [  # a text, and what it does not meet
    (RIGHT, ""), ("", ALL), (" \n\t ", ALL), ("...", ALL), ("\u200b", ALL), ("🚤", ALL),
    ("123", "words acrostic first last required"),
    # The given lines alone, repeated, in another order, and where lines break.
    (A, "words acrostic last required"), (C, "words acrostic first required"), (f"{A}\n{C}", "words acrostic required"),
    (f"{A}\n{A}", "words acrostic first last required"), (f"{A}\n{A}\n{C}", "acrostic first required"),
    (f"{A}\n{C}\n{C}", "words acrostic last required"), (f"{C}\n{B}\n{A}", "acrostic first last"),
    (f"{A} {B} {C}", "acrostic first last"), (f"{A}\\n{B}\\n{C}", "acrostic first last"),
    (f"{A}\n\n{B}\n \n{C}\n", ""), (f"{A}\r\n{B}\r\n{C}", ""), (f"{A}\r{B}\r{C}", ""), (f"{A}\u2028{B}\u2029{C}", ""),
    (f"  {A}  \n\t{B}\n{C}", ""), (RIGHT.replace("Tom found", "Tom  found"), ""), (RIGHT.replace(" ", "\u00a0"), ""),
    (f"A Story\n{RIGHT}", "words acrostic first"), (f"{RIGHT}\nThe end.", "words acrostic last"),
    (f"```\n{RIGHT}\n```", ""), (f"```text\n{RIGHT}\n```", "words acrostic first"), (f"---\n{RIGHT}", ""),
    # Given lines are verbatim but for spaces and typographic quotes.
    (RIGHT.lower(), "first last"), (RIGHT.upper(), "first last"), (f'"{RIGHT}"', "first last"),
    (RIGHT.replace("map.", "map"), "first"), (RIGHT.replace("map.", "map!"), "first"), (f"- {RIGHT}", "first"),
    (RIGHT.replace("map.", "map. 🚤"), "first"), (f"Then {RIGHT}", "words first"), (f"{RIGHT} So.", "words last"),
    (RIGHT.replace("Tom", "T\u043em"), "first"), (RIGHT.replace("lake.", "lake…"), "last"),
    # A word to use: any case, any punctuation, as often as the text likes, but the word itself.
    (with_b("IDA HID THE BOAT"), ""), (with_b("Ida hid the Boat!"), ""),
    (with_b("Ida hid 'boat' now"), ""),
    (with_b("Ida hid the “boat”."), ""), (with_b("Ida hid (boat) here."), ""),
    (with_b("Ida hid the *boat*"), ""),
    (with_b("Ida hid,boat,there."), ""), (with_b("Ida hid—boat—there."), ""),
    (with_b("Ida hid--boat--there"), ""),
    (with_b("Ida, boat, boat, boat."), ""), (with_b("Ida hid the boat boat."), "words"),
    (with_b("Boat boat boat boat."), "acrostic"), (with_b("Ida hid the boat 🚤."), ""),
    (with_b("Ida hid the boat 🚤\ufe0f."), ""), (with_b("Ida hid the bo\u200bat."), ""),
    (with_b("Ida hid the bo\u00adat."), ""), (with_b("Ida hid the boat\u0338."), ""),
    (with_b("Ida hid the boats."), "required"), (with_b("Ida hid the sailboat."), "required"),
    (with_b("Ida hid the boat's."), "required"), (with_b("Ida hid the boat’s."), "required"),
    (with_b("Ida hid the boat-house."), "required"), (with_b("Ida hid the boat\u2010house."), "required"),
    (with_b("Ida hid the boat - house."), "words"), (with_b("Ida hid the bo at."), "words required"),
    (with_b("Ida hid the b-o-a-t."), "required"), (with_b("Ida hid the b.o.a.t."), "words required"),
    (with_b("Ida hid the b0at."), "required"), (with_b("Ida hid the taob."), "required"),
    (with_b("Ida hid the b\u043eat."), "required"), (with_b("Ida hid the ｂｏａｔ."), ""),
    (with_b("Ida hid the boat_."), ""), (with_b("Ida hid the boat1."), "required"),
    # A word to avoid: the word itself, as a part of a compound, and in letters that look like it.
    (with_b("Ida hid the lamp."), "required forbidden"), (with_b("Ida, boat and LAMP."), "forbidden"),
    (with_b("Ida, boat, no lamp."), "forbidden"), (with_b("Ida, boat and “lamp”."), "forbidden"),
    (with_b("Ida, boat and lamp's."), "forbidden"), (with_b("Ida, boat and lamp-post."), "forbidden"),
    (with_b("Ida, boat, la\u200bmp, there."), "forbidden"), (with_b("Ida, boat and l\u0430mp."), "forbidden"),
    (with_b("Ida, boat and lámp."), "forbidden"), (with_b("Ida, boat and la\u0301mp."), "forbidden"),
    (with_b("Ida, boat and ｌａｍｐ."), "forbidden"), (with_b("Ida, boat and lamps."), ""),
    (with_b("Ida, boat and lamplight."), ""), (with_b("Ida, boat and clamp."), ""),
    (with_b("Ida, boat and café."), ""), (with_b("Ida, boat, l amp."), ""), (with_b("Ida, boat and рыба."), ""),
    # What is one word.
    (with_b("Ida hid well-known boat."), ""), (with_b("Ida doesn't hide boat."), ""),
    (with_b("Ida doesn’t hide boat."), ""), (with_b("Ida hid 3.5 boat."), ""),
    (with_b("Ida hid 1,000 boat."), ""),
    (with_b("Ida hid and/or boat."), "words"), (with_b("Ida hid: boat."), "words"),
    (with_b("Ida hid-boat-there now."), "words required"),
    (with_b("<b>Ida</b> hid the boat."), "words acrostic"),
    (with_b("Ida hid the boat.<br>"), "words"), (with_b("Ida hid лодка boat."), ""), (with_b("Ida hid the 𝐛𝐨𝐚𝐭."), ""),
    # First letters.
    (with_b("- Ida hid the boat."), ""), (with_b("¡Ida hid the boat!"), ""),
    (with_b("'Ida hid the boat'"), ""),
    (with_b("1. Ida hid the boat."), "words acrostic"), (with_b("**I**da hid the boat."), "words"),
    (with_b("Ída hid the boat."), "acrostic"), (with_b("İda hid the boat."), "acrostic"),
    (with_b("\u0406da hid the boat."), "acrostic"), (with_b("Eve hid the boat."), "acrostic"),
]  # fmt: skip
RESPONSES = [
    (RIGHT, ALL), (f"<answer>{RIGHT}", ""), (f"<answer>{RIGHT}</answer>\nlamp", ""),
    (f"<answer>{RIGHT}</answer><|eot_id|><answer>lamp</answer>", ""), (f"<|eot_id|><answer>{RIGHT}</answer>", ALL),
    (f"<answer>{RIGHT}<|endoftext|> lamp</answer>", ""), (f"<answer>lamp</answer><answer>{RIGHT}</answer>", ""),
    (f"<answer>{RIGHT}</answer><answer>lamp</answer>", ALL), (f"<answer>{RIGHT}</answer><answer></answer>", ALL),
    (f"{RIGHT}</reasoning><answer></answer>", ALL), (f"lamp</reasoning><answer>\n{RIGHT}\n</answer>", ""),
    (f"<answer>{RIGHT}</answer", "words last"), (f"<answer><answer>{RIGHT}</answer></answer>", ""),
    (f"<ANSWER>{RIGHT}</ANSWER>", ALL), (f"<answer>{RIGHT}</reasoning></answer>", "words last"),
    (f"</answer>{RIGHT}<answer>", ALL), (f"<answer>\\boxed{{{RIGHT}}}</answer>", "words acrostic first last"),
    ("", ALL),
]  # fmt: skip
LETTERS = asked(words="8", acrostic="bed", first="bq", last="dq", required="q", forbidden="k")
TERSE_TEXTS = [
    ("bq;eqqq;dq", ""), (" bq ; eqqq;dq;", ""), ("bq;;eqqq;dq", ""), ("bq;exyq;dq", ""), ("", ALL), (";;", ALL),
    (".", ALL),
    ("bqeqqqdq", "acrostic first last"), ("bq;eqqk;dq", "forbidden"), ("bq;eqq;dq", "words"), ("bq;eqqqq;dq", "words"),
    ("bq;qqqq;dq", "acrostic"), ("bq;bq;bq;dq", "acrostic first"), ("dq;eqqq;bq", "acrostic first last"),
    ("bk;ekkk;dk", "first last required forbidden"), ("bq,eqqq,dq", "acrostic first last"), ("bq;eqq.;dq", "words"),
    ("bq;eqqq;dq.", "last"), ("bq", "words acrostic last"), ("bq\neqqq\ndq", "acrostic first last"),
    ("bq;eqq<|mdm_mask|>;dq", "words forbidden"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kinds"), TEXTS)
def test_texts_by_hand(text, kinds):
    assert unmet(CHAT, f"<answer>{text}</answer>", ENGLISH) == kinds


@pytest.mark.parametrize(("response", "kinds"), RESPONSES)
def test_responses_by_hand(response, kinds):
    assert unmet(CHAT, response, ENGLISH) == kinds


@pytest.mark.parametrize(("text", "kinds"), TERSE_TEXTS)
def test_terse_texts_by_hand(text, kinds):
    assert unmet(TERSE, f"</reasoning><answer>{text}</answer>", LETTERS) == kinds


def solve(question):
    """Write a text that meets an English instruction, which is all that this function sees."""

    def said(pattern):
        return re.findall(pattern, question, re.MULTILINE)

    (count,) = map(int, said(r"exactly (\d+) words"))
    (initials,) = said(r'lines spell "(\w+)"') or ["xyz"]
    lines = [f"{letter}zz" for letter in initials]
    lines[1] = " ".join([lines[1], *said(r'^Use the word "(\w+)"')])
    for first in said(r'^The first line.* is "(.*)"$'):
        lines[0] = first
    for last in said(r'^The last line.* is "(.*)"$'):
        lines[-1] = last
    missing = count - len(" ".join(lines).split())
    lines[1] += " yes" * missing
    return "\n".join(lines)


def solve_terse(question):
    """The same for a coded instruction."""
    count, initials, first, last = int(question[:2]), question[2:5], question[5:7], question[7:9]
    assert question[9] + question[11] == "+-"
    free = "".join(sorted({*ascii_lowercase} - {*question}))
    initials = free[:3] if initials == "..." else initials
    first, last = (initials[0] if first == ".." else first), (initials[2] if last == ".." else last)
    middle = initials[1] + question[10]
    return f"{first};{middle:{free[-1]}<{count - len(first) - len(last)}};{last}"


@pytest.mark.parametrize("prompt", TASKS)
def test_every_instruction_can_be_met(prompt):
    task, rng = TASKS[prompt], random.Random(0)
    solver = {"chat": solve, "terse": solve_terse}[prompt]
    kinds = set()
    for examples in EXAMPLES[prompt].values():
        for example in examples:
            kinds |= {one["kind"] for one in example["requirements"]}
            assert example["difficulty"] == len(example["requirements"])
            for text in (example["answer"], solver(example["question"])):
                assert unmet(task, f"<answer>{text}</answer>", example) == ""
            for right in (True, False):
                response = task.demonstration(example, 24, right, rng)
                assert task.grade(response + "<|endoftext|>", example).strict == right
    assert kinds == set(ALL.split())


@pytest.mark.parametrize("prompt", TASKS)
def test_no_instruction_is_in_two_splits(prompt):
    splits = EXAMPLES[prompt]
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 300, "validation": 50, "test": 50}
    questions = [example["question"] for examples in splits.values() for example in examples]
    assert len(set(questions)) == 400
    again = load("writing", {key: getattr(TASKS[prompt], key) for key in TASKS[prompt].__annotations__} | {"test": 5})
    assert again.splits()["train"] == splits["train"]  # so that `test` may be a setting of the test data alone


def broken(example, number, terse):
    """Return the text of an example changed so that only requirement `number` is not met; None if none was found."""
    kind, value = example["requirements"][number].values()
    values = {one["kind"]: one["value"] for one in example["requirements"]}
    lines = example["answer"].split(";" if terse else "\n")
    middle = lines[1]
    if terse:
        new = next(letter for letter in "uvwxyz" if letter not in example["answer"] + values["forbidden"])
        if kind == "required" and "first" in values:
            return None  # the given lines contain it
        changed = {
            "words": {1: middle + middle[-1]}, "acrostic": {1: new + middle[1:]}, "first": {0: lines[0][0] + new},
            "last": {-1: lines[-1][0] + new}, "forbidden": {1: middle[:-1] + value},
            "required": dict(enumerate(line.replace(value, new) for line in lines)),
        }[kind]  # fmt: skip
        if kind == "forbidden" and middle.count(values["required"]) == 1 and "first" not in values:
            changed = {1: middle + value, 0: lines[0][:1]}  # one letter moves to the middle line
    else:
        name, verb, *rest = middle.split(" ")
        other = "Zoe" if name[0] != "Z" else "Eve"
        changed = {
            "words": {1: f"{middle} Indeed."}, "acrostic": {1: " ".join([other, verb, *rest])},
            "first": {0: re.sub(r" \w+", " saw", lines[0], count=1)},
            "last": {-1: re.sub(r" \w+", " saw", lines[-1], count=1)},
            "required": dict(enumerate(re.sub(rf"\b{value}\b", "thing", line) for line in lines)),
            "forbidden": {1: " ".join([name, value, *rest])},
        }[kind]  # fmt: skip
    for place, line in changed.items():
        lines[place] = line
    return (";" if terse else "\n").join(lines)


@pytest.mark.parametrize("prompt", TASKS)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(row=st.integers(0, 299), choice=st.integers(0, 99))
def test_a_requirement_that_is_broken_costs_its_share(prompt, row, choice):
    task, example = TASKS[prompt], EXAMPLES[prompt]["train"][row]
    assert task.reward(f"<answer>{example['answer']}</answer>", example) == {"met": 1.0}
    count = len(example["requirements"])
    text = broken(example, choice % count, prompt == "terse")
    if text is not None:
        assert unmet(task, f"<answer>{text}</answer>", example) == example["requirements"][choice % count]["kind"]
        assert task.reward(f"<answer>{text}</answer>", example) == {"met": (count - 1) / count}


PIECES = [
    "<answer>",
    "</answer>",
    "<|eot_id|>",
    A,
    B,
    C,
    "boat",
    "lamp",
    "\n",
    " ",
    "'",
    "-",
    "\u0301",
    "\u200b",
    "é",
    "3.5",
]


@pytest.mark.parametrize(("task", "example"), [(CHAT, ENGLISH), (TERSE, LETTERS)])
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(response=st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_graded(task, example, response):
    unmet(task, response, example)


@pytest.mark.parametrize("unit", ["a", "a ", "a-", "'", "9.", "a\n", "e\u0301", "\u0301", "<answer>", "a;", "lamp "])
def test_long_answers_take_seconds_at_most(unit):
    """Of 300,000 characters, for which a pattern that backtracks would take hours."""
    for task, example in ((CHAT, ENGLISH), (TERSE, LETTERS)):
        began = time.process_time()
        task.grade("<answer>" + unit * (300_000 // len(unit)), example)
        assert time.process_time() - began < 5


@pytest.mark.parametrize("length", [24, 32, 40])
def test_terse_problems_are_in_the_vocabulary_and_fit(length):
    from unmask.models.tiny import build_tokenizer

    tokenizer, rng = build_tokenizer(), random.Random(0)
    for example in EXAMPLES["terse"]["train"]:
        (message,) = TERSE.messages(example)
        prompt = tokenizer(message["content"]).input_ids
        assert len(prompt) == 13
        for right in (True, False):
            tokens = tokenizer(TERSE.demonstration(example, length, right, rng)).input_ids
            assert len(tokens) < length  # the end of text follows
            assert tokenizer.unk_token_id not in prompt + tokens


def test_the_words_of_the_generator():
    words = [*NAMES, *VERBS, *ADJECTIVES, *NOUNS, *PLACES]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in NAMES)
    assert all(re.fullmatch("[a-z]+", word) for word in words[len(NAMES) :])
    assert {name[0].lower() for name in NAMES} >= set("".join(NOUNS))
    assert {len(noun) for noun in NOUNS} == {3, 4, 5}


def test_the_wording_by_hand():
    example = next(one for one in EXAMPLES["chat"]["train"] if one["difficulty"] == 6)
    first, *_, last = example["answer"].split("\n")
    assert f'The first line, and no other line, is "{first}"' in example["question"].split("\n")
    assert f'The last line, and no other line, is "{last}"' in example["question"].split("\n")
    count = len(example["answer"].split())
    assert example["question"].startswith(f"The text has exactly {count} words.\n")


def test_settings_without_enough_problems_are_refused():
    few = load("writing", SIZES | {"prompt": "terse", "min_words": 1, "max_words": 4})
    with pytest.raises(ValueError, match="only 0 of 400 distinct problems"):
        few.splits()
