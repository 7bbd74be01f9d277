"""Thousands of broken configurations and data files: each works, or is refused in lines that name the key or the row.

Examples are drawn by hypothesis, the same at every run.
"""

import copy
import csv
import io
import json
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from helpers.paths import ROOT
from unmask import tasks
from unmask.common.parquet import write_rows
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.spec_file import Spec
from unmask.tasks._examples import read_examples
from unmask.tasks._files import READERS, file_rows

CONFIG = load_config() | {"scale": "smoke"}


def many(count):
    """So many examples, the same at every run; a failing one is shown as it is, since shrinking takes minutes."""
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([10**400, 1e308, "1e999", "\ud800", "\x00", "$(x)", "../..", "a" * 300, "２", b"x"])
)  # fmt: skip
ENDLESS = st.just(5000).map(lambda digits: -(10**digits))  # more digits than Python writes out


def nested(scalars):
    """Scalars, and lists and mappings of them."""
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=6
    )


VALUES = nested(SCALARS | ENDLESS)


# --- config.yaml ------------------------------------------------------------------------------------------------------


def places(values, path=()):
    """The path of every value in nested blocks and lists."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


PLACES = sorted(places(CONFIG), key=str)


def changed(config, changes):
    """The configuration with some values replaced, added under another name, or removed."""
    config = copy.deepcopy(config)
    for path, kind, value in changes:
        block = config
        for key in path[:-1]:
            block = block[key] if isinstance(block, dict) and key in block else {}
        if isinstance(block, dict) and path[-1] in block:
            if kind == "set":
                block[path[-1]] = value
            elif kind == "rename":
                hashable = value if isinstance(value, str | int | float | bytes | None) else "other"
                block[hashable] = block.pop(path[-1])
            else:
                del block[path[-1]]
    return config


CHANGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["set", "set", "set", "rename", "remove"]), VALUES),
    min_size=1,
    max_size=3,
)


@many(1000)
@given(CHANGES)
def test_a_configuration_works_or_its_mistakes_are_named(changes):
    config = changed(CONFIG, changes)
    try:
        grid = expand(config)
    except ConfigError as error:
        tops = {*map(str, config), *CONFIG, "config.yaml"}
        for line in error.lines:
            assert "\n" not in line
            assert len(line) < 500
            assert line.split(":")[0].split(".")[0] in tops or line.startswith("config.yaml"), line
    else:
        for name, spec in grid.specs.items():
            assert isinstance(spec, Spec)
            assert name.encode()
            assert json.loads(spec.to_json()).keys() <= vars(spec).keys()
        for experiment in grid.experiments.values():
            assert experiment.question.encode()


@many(200)
@given(VALUES)
def test_anything_in_place_of_the_whole_is_refused(values):
    with pytest.raises(ConfigError):
        expand(values)


def test_a_block_that_holds_itself_is_refused():
    block = {}
    block["training"] = block
    with pytest.raises(ConfigError, match="nested"):
        expand(CONFIG | {"training": block})


# --- data files -------------------------------------------------------------------------------------------------------

STORED = {"validation": 1, "seed": 0, "prompt_file": ""}
PUZZLES = {"prompt": "chat", "prompt_file": "", "train": 2, "validation": 1, "test": 1, "seed": 0}
BOARD = {"Puzzle": "0234341221434321", "Solution": "1234341221434321"}
RIGHT = {  # task: settings and a row that is right
    "gsm8k": (STORED | {"rewards": "corrected"}, {"question": "q", "answer": "<<1>>\n#### 1,000"}),
    "math500": (
        STORED | {"rewards": "released_d1"},
        {"problem": "p", "answer": r"\frac12", "solution": r"\boxed{1}", "level": "Level 5"},
    ),
    "countdown": (
        PUZZLES | {"largest": 9, "largest_target": 9, "rewards": "corrected"},
        {"nums": [1, 2, 9], "target": 9},
    ),
    "sudoku": (PUZZLES | {"split": "random", "min_blanks": 4, "max_blanks": 8, "rewards": "corrected"}, BOARD),
}  # fmt: skip
DIFFER = {
    "question": lambda text, i: f"{text}{i}", "problem": lambda text, i: f"{text}{i}",
    "nums": lambda numbers, i: [*numbers[:2], i + 1], "target": lambda _, i: i + 4,
}  # fmt: skip
PIECES = SCALARS | st.sampled_from(["####", "#### 1", r"\boxed{", "0" * 16, [1, 2, 9], [1, 2], ["1", 2, 3.0], [], {}])
ODD = st.sampled_from(["set", "remove", "add"])


def another(row, i):
    """A row that is different where the task asks for it."""
    return row | {key: differ(row[key], i) for key, differ in DIFFER.items() if key in row}


def rows_with(row, mistakes):
    """Eight right rows, some of them spoilt."""
    rows = [another(row, i) for i in range(8)]
    for number, kind, position, value in mistakes:
        key = sorted(row)[position % len(row)]
        if kind == "remove":
            rows[number].pop(key, None)
        else:
            rows[number][key if kind == "set" else f"{key}x"] = value
    return rows


MISTAKES = st.lists(st.tuples(st.integers(0, 7), ODD, st.integers(0, 3), PIECES | nested(SCALARS)), max_size=3)


def use(task, splits, folder):
    """What the steps do with a task: write its splits, read them, pose and grade each example."""
    for split, examples in splits.items():
        write_rows(folder / f"{split}.parquet", examples)
        for example in read_examples(folder / f"{split}.parquet"):
            assert isinstance(task.messages(example)[0]["content"], str)
            for response in ("", "</reasoning><answer>\\boxed{1+2}</answer>", "<answer>1</answer>" * 2):
                tasks.total_reward(task, response, example)
                tasks.grade_response(task, response, example)


@pytest.mark.parametrize("name", RIGHT)
@many(200)
@given(mistakes=MISTAKES)
def test_rows_work_or_are_named(tmp_path_factory, name, mistakes):
    folder = folder_of(tmp_path_factory)
    options, row = RIGHT[name]
    file = folder / "rows.jsonl"
    lines = [json.dumps(row, default=repr, skipkeys=True) for row in rows_with(row, mistakes)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "right.jsonl").write_text(json.dumps(another(row, 9)), encoding="utf-8")
    said = refusal(name, options, file, folder)
    assert "\n" not in said
    assert not said or mistakes
    assert not said or str(file) in said or any(words in said for words in ("ask for", "has no solution", "no puzzle"))


def refusal(name, options, file, folder):
    """What is said when a task is used with this file; nothing if it works."""
    spoilt, right = ({"source": "local", "path": str(path)} for path in (file, folder / "right.jsonl"))
    sources = {"test_source": spoilt} if name == "sudoku" else {"train_source": spoilt, "test_source": right}
    try:
        splits = tasks.load(name, options | sources).splits()
    except ValueError as error:
        return str(error)
    use(tasks.load(name, options | sources), splits, folder)  # whatever it takes, it can write, pose and grade
    return ""


def folder_of(factory):
    """One folder for all examples of a test."""
    folder = factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    return folder


@many(600)
@given(data=st.data())
def test_files_of_any_bytes_are_read_or_named(tmp_path_factory, data):
    """A right file with some bytes replaced, cut or doubled."""
    folder = folder_of(tmp_path_factory)
    suffix = data.draw(st.sampled_from(list(READERS)))
    content = bytearray(right_file(suffix, folder))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    file = folder / f"spoilt{suffix}"
    file.write_bytes(content)
    rows, said = read(file)
    assert said.startswith(f"{file}: ") if said else rows
    assert all(isinstance(row, dict) for row in rows)


def read(file):
    """The rows of a file, or what was said instead."""
    try:
        return file_rows(file), ""
    except ValueError as error:
        return [], str(error)


def right_file(suffix, folder):
    """Rows of GSM8K in one of the formats."""
    rows = [{"question": f"q{i}", "answer": f"#### {i}"} for i in range(8)]
    if suffix == ".jsonl":
        return "\n".join(map(json.dumps, rows)).encode()
    if suffix == ".parquet":
        write_rows(folder / "right.parquet", rows)
        return (folder / "right.parquet").read_bytes()
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


# --- by the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_prepare_dataset_names_a_broken_row_and_writes_nothing(tmp_path, seed):
    rng = random.Random(seed)
    name = rng.choice(["gsm8k", "math500", "countdown"])
    options, row = RIGHT[name]
    rows, number = [copy.deepcopy(row) for _ in range(9)], rng.randrange(9)
    key = {"gsm8k": "answer", "math500": "problem", "countdown": "nums"}[name]
    rows[number][key] = rng.choice([None, 3, "\ud800"])
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = {"source": "local", "path": "rows.jsonl"}
    spec = {"task": name, "settings": options | {"train_source": source, "test_source": source}}
    subprocess.run([sys.executable, ROOT / "src/write_spec.py", "DataSpec", json.dumps(spec), tmp_path / "spec.yaml"],
                   check=True)  # fmt: skip
    done = subprocess.run(
        [sys.executable, ROOT / "src/prepare_dataset.py", "spec.yaml", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"prepare_dataset: tasks.{name}: rows.jsonl, row {number + 1} of ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("training", "learning_rate"), 10**400, "training.learning_rate: a whole number beyond 2**53"),
        (("experiments", "main", "question"), "\ud800", r"experiments.main.question: '\ud800' has half a surrogate"),
        (("methods", "dmpo\nalpha"), {}, r"methods.dmpo\nalpha: string should match pattern"),
    ],
)
def test_snakemake_names_a_broken_key_and_writes_nothing(tmp_path, path, value, line):
    config = copy.deepcopy(CONFIG)
    block = config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    (tmp_path / "mine.json").write_text(json.dumps(config), encoding="utf-8")
    command = ["snakemake", "-n", "-s", ROOT / "Snakefile", "--configfile", "mine.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"  - {line}" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
