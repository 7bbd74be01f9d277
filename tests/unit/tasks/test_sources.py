"""Data from local files, and what is said when they are not there."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from helpers.paths import ROOT, SHARED
from helpers.sources import STORED, gsm8k, local, math500, write_parquet
from unmask.common.checksums import sha256
from unmask.config.data_files import SUFFIXES, source_file
from unmask.config.grid.content import with_content
from unmask.config.grid.expand import expand
from unmask.config.specs import DataSpec
from unmask.scoring.sudoku_grids import is_unique
from unmask.tasks import load
from unmask.tasks._columns import column
from unmask.tasks._examples import read_examples
from unmask.tasks._files import READERS, file_rows
from unmask.tasks._sources import hold_out, load_rows, local_files

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data")


@needs_data
def test_gsm8k_loads_and_all_golds_parse():
    splits = gsm8k(local(DATA / "gsm8k"), local(DATA / "gsm8k" / "test.jsonl"), validation=256).splits()
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 7217,
        "validation": 256,
        "test": 1319,
    }
    golds = [float(e["answer"].replace(",", "")) for examples in splits.values() for e in examples]
    assert len(golds) == 8792
    assert len({e["question"] for examples in splits.values() for e in examples}) > 8780


@needs_data
def test_every_gsm8k_gold_answer_is_right_under_strict():
    task = gsm8k(local(DATA / "gsm8k"), local(DATA / "gsm8k"))
    for example in task.splits()["test"]:
        assert task.grade(f"<answer>{example['answer']}</answer>", example).strict == 1.0


@needs_data
def test_math500_test_loads_and_golds_are_right_under_published():
    rows = load_rows(local(DATA / "math500"), "test")
    assert len(rows) == 500
    task = math500(local(DATA / "math500"), local(DATA / "math500"))
    for row in rows:
        example = {"question": row["problem"], "answer": row["answer"]}
        assert task.reward(f"<answer>\\boxed{{{row['answer']}}}</answer>", example) == {"format": 1.0, "correct": 2.0}


@needs_data
def test_sudoku_test_boards_load_as_text():
    settings = {"prompt": "chat", "prompt_file": "", "test_source": local(DATA / "sudoku"), "split": "random",
                "min_blanks": 4, "max_blanks": 11, "train": 500, "validation": 50, "test": 500, "seed": 0}  # fmt: skip
    splits = load("sudoku", settings).splits()
    assert len(splits["test"]) == 500
    assert all(len(e["question"]) == 16 for e in splits["test"])
    assert not {e["question"] for e in splits["test"]} & {e["question"] for e in splits["train"] + splits["validation"]}
    with pytest.raises(ValueError, match="set split: random"):
        load("sudoku", settings | {"split": "disjoint"}).splits()
    with pytest.raises(ValueError, match="has 500 boards, not 501"):
        load("sudoku", settings | {"test": 501}).splits()


@needs_data
def test_every_countdown_test_puzzle_is_solvable_and_kept_from_training(tmp_path):
    rows = [{"nums": [2, 3, n], "target": 6 + n} for n in range(2, 30)] + [{"nums": [1, 2, 3, 4], "target": 10}]
    given = load_rows(local(DATA / "countdown"), "test")
    rows += [
        {"nums": [int(n) for n in row["input"].split(",")][::-1], "target": int(row["output"])} for row in given[:9]
    ]
    write_parquet(rows, tmp_path / "train.parquet")
    settings = {"prompt": "chat", "prompt_file": "", "train_source": local(tmp_path), "largest": 9, "largest_target": 9,
                "test_source": local(DATA / "countdown"), "train": 20, "validation": 8, "test": 256, "seed": 0,
                "rewards": "corrected"}  # fmt: skip
    task = load("countdown", settings)
    splits = task.splits()
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 20, "validation": 8, "test": 256}
    for example in splits["test"] + splits["train"]:  # its answer is a solution, so there is one
        grade = task.grade(f"<answer>\\boxed{{{example['answer']}}}</answer>", example)
        assert (grade.published, grade.strict) == (1.0, 1.0)
    assert {e["target"] - e["numbers"][2] for e in splits["train"]} == {6}
    with pytest.raises(ValueError, match="ask for fewer"):
        load("countdown", settings | {"train": 21}).splits()


def test_an_unsolvable_puzzle_is_refused(tmp_path):
    write_parquet([{"nums": [1, 1, 1], "target": 99}], tmp_path / "test.parquet")
    settings = {"prompt": "chat", "prompt_file": "", "train_source": {"source": "generated"}, "largest": 9,
                "test_source": local(tmp_path), "largest_target": 9, "train": 2, "validation": 2, "test": 1, "seed": 0,
                "rewards": "corrected"}  # fmt: skip
    with pytest.raises(ValueError, match=r"\[1, 1, 1\] -> 99 has no solution"):
        load("countdown", settings).splits()


def test_training_takes_all_puzzles_that_are_left(tmp_path):
    write_parquet([{"nums": [2, 3, n], "target": 6 + n} for n in range(1, 41)], tmp_path / "train.parquet")
    (tmp_path / "test.jsonl").write_text(json.dumps({"input": "8,3,2", "output": "14"}))
    settings = {"prompt": "chat", "prompt_file": "", "train_source": local(tmp_path), "largest": 9,
                "test_source": local(tmp_path / "test.jsonl"), "largest_target": 9, "train": 0, "validation": 7,
                "test": 1, "seed": 0, "rewards": "corrected"}  # fmt: skip
    splits = load("countdown", settings).splits()
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 32, "validation": 7, "test": 1}
    assert len({tuple(sorted(e["numbers"])) for examples in splits.values() for e in examples}) == 40
    some = load("countdown", settings | {"train": 10}).splits()
    assert some["validation"] == splits["validation"]
    with pytest.raises(ValueError, match="no puzzle is left for training"):
        load("countdown", settings | {"validation": 39}).splits()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_file_layouts(tmp_path, kind):
    rows = [{"question": f"é\u2028{i}", "answer": f"so\n#### {i}"} for i in range(4)]
    file = tmp_path / f"train.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8")
    elif kind == "csv":
        pd.DataFrame(rows).to_csv(file, index=False)
    else:
        write_parquet(rows, file)
    assert file_rows(file) == rows
    assert load_rows(local(tmp_path), "train") == rows
    assert len(gsm8k(local(tmp_path), None).splits()["train"]) == 3


def test_csv_values_stay_text(tmp_path):
    (tmp_path / "test.csv").write_text("\ufeffPuzzle,Solution\n0140,0001\n", encoding="utf-8")
    assert load_rows(local(tmp_path), "test") == [{"Puzzle": "0140", "Solution": "0001"}]


@needs_data
def test_what_the_papers_sudoku_boards_leak():
    boards = load_rows(local(DATA / "sudoku"), "test")
    assert len({board["Solution"] for board in boards}) == 229
    assert sum(not is_unique(board["Puzzle"]) for board in boards) == 124


def test_a_block_that_is_no_source_names_no_file(grid):
    """As `test_subset` of Sudoku."""
    assert "test_subset" in grid.tests["sudoku"].settings
    assert [local_files(spec.settings) for spec in grid.tests.values()] == [{}] * len(grid.tests)


def test_prepare_dataset_writes_the_splits_and_what_they_were_made_of(tmp_path):
    for split in ("train", "test"):
        rows = [{"question": f"{split}{i}", "answer": f"<<1+1=2>> #### {i},000"} for i in range(5)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "prompt.txt").write_text("Solve: {question}")
    settings = STORED | {"train_source": local(tmp_path), "test_source": local(tmp_path)}
    settings = with_content(settings | {"prompt_file": str(tmp_path / "prompt.txt")})  # as the workflow writes a spec
    rows_of = {}
    for test in (False, True):
        DataSpec("gsm8k", settings, test).write(tmp_path / "spec.yaml")
        command = [sys.executable, ROOT / "src/prepare_dataset.py", tmp_path / "spec.yaml", tmp_path / "out"]
        subprocess.run(command, check=True, timeout=60)
        manifest = json.loads((tmp_path / "out" / ("test" if test else "") / "manifest.json").read_text())
        assert manifest["settings"] == settings
        sources = {f"{name}_source": sha256(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
        assert manifest["inputs"] == sources | {"prompt_file": sha256(tmp_path / "prompt.txt")}
        assert manifest["outputs"] == {
            f"{split}.parquet": sha256(tmp_path / f"out/{split}.parquet") for split in manifest["rows"]
        }
        rows_of |= manifest["rows"]
    assert rows_of == {"train": 4, "validation": 1, "test": 5}
    assert read_examples(tmp_path / "out/test.parquet") == [
        {"question": f"test{i}", "answer": f"{i},000", "difficulty": 1, "solution": "<<1+1=2>>"} for i in range(5)
    ]


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of train.jsonl, train.csv, train.parquet, found 0"):
        source_file(str(tmp_path), "train")
    for name, content, said in [
        ("a.jsonl", '{"a": 1}\n{', "line 2"),
        ("b.jsonl", "", "no rows"),
        ("e.jsonl", "{}\n[1]", "line 2: not an object"),
        ("c.parquet", "x", "cannot be read"),
        ("d.txt", "x", "in none of the formats .jsonl"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=said) as error:
            file_rows(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(ValueError, match="cannot be read"):
        file_rows(tmp_path / "nowhere.jsonl")
    with pytest.raises(ValueError, match="no column a or b in a row with c"):
        column({"c": 1}, "a", "b")
    with pytest.raises(ValueError, match=r"^a is null$"):
        column({"a": None}, "a", "b")


def test_validation_is_cut_by_seed():
    rows = [{"question": str(i)} for i in range(100)]
    rest, cut = hold_out(rows, 10, 0)
    assert (len(rest), len(cut)) == (90, 10)
    assert hold_out(rows, 10, 0) == (rest, cut)
    assert hold_out(rows, 10, 1) != (rest, cut)
    with pytest.raises(ValueError, match="cannot hold out 100 validation examples of 100"):
        hold_out(rows, 100, 0)


def test_local_files_are_found_for_the_manifest(tmp_path):
    (tmp_path / "train.csv").write_text("a\n1\n")
    settings = {"train_source": local(tmp_path), "test_source": {"source": "generated"}, "seed": 0}
    assert local_files(settings) == {"train_source": tmp_path / "train.csv"}


@needs_data
def test_the_papers_test_boards_are_those_that_their_evaluation_draws(config, monkeypatch):
    """d1 837888f, eval/eval.py:34,151,198-202 and eval/gsm8k.py:40: seed 42, then choice of 256 of 500."""
    monkeypatch.chdir(DATA.parent)
    config["scales"]["llada-8b"]["task_settings"]["sudoku"]["test_source"] = local("data/sudoku/test.csv")
    spec = expand(config | {"scale": "llada-8b"}).tests["sudoku"]
    chosen = load("sudoku", spec.settings | {"train": 2, "validation": 1}).splits()["test"]
    rows = load_rows(local(DATA / "sudoku"), "test")
    subset = json.loads((DATA.parent / "facts/sudoku_test_subset.json").read_text(encoding="utf-8"))
    assert [example["question"] for example in chosen] == [rows[i]["Puzzle"] for i in subset]
    assert len(set(subset) & set(range(256))) == 136  # the first 256 would be other boards


def test_every_suffix_of_a_local_file_has_a_reader():
    assert tuple(READERS) == SUFFIXES
