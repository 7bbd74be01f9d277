"""Samples are the same from any number of processes and after a kill, and finished parts are not made again."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.paths import ROOT
from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.evaluation import evaluate
from unmask.evaluation.shards import ShardStore

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
SAMPLERS = ["top2", "random_order", "adaptive", "adaptive_block"]  # two heads: which one is used must not depend on
SAMPLES = len(SAMPLERS) * 2 * 8  # who makes which part; lengths, examples


@pytest.fixture
def asked(config):
    """The run and the evaluation: at temperature 1, so everything is drawn, three examples at a time."""
    config["samplers"]["adaptive_block"] |= {"gamma": 1.0}
    config["evaluations"]["papers"] |= {"samplers": SAMPLERS, "temperature": 1.0, "rows_per_batch": 3}
    grid = expand(config)
    return grid.runs["base/sudoku/default/seed-0"], grid.evaluations["papers"], grid.tests["sudoku"]


@pytest.fixture
def begin(asked, on_disk):
    """Begins evaluate_policy.py in so many processes; `name` is the folder of its samples."""
    for spec, name in zip(asked, ("run", "evaluation", "test"), strict=True):
        spec.write(on_disk / f"{name}.yaml")

    def start(name, count=1):
        out = on_disk / name / "samples-papers.parquet"
        launcher = [*TORCHRUN, str(count)] if count > 1 else [sys.executable]
        command = [
            *launcher, ROOT / "src" / "evaluate_policy.py", on_disk / "run.yaml", "--evaluation",
            on_disk / "evaluation.yaml", "--weights", on_disk / "weights", "--data", on_disk / "test.parquet",
            "--test-spec", on_disk / "test.yaml", "--samples", out,
        ]  # fmt: skip
        return out, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def rows(file):
    """All columns but the seconds; nothing is left beside the file."""
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    return pd.read_parquet(file).drop(columns="seconds")


def test_processes_and_a_kill_change_no_row(begin, finish):
    alone, process = begin("alone")
    finish(process)
    killed, process = begin("killed")
    parts = killed.with_suffix(".parts")
    while len(list(parts.glob("top*.parquet"))) < 3:  # the lock says nothing yet of the samples
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.kill()
    process.communicate()
    left = {path.name for path in parts.glob("[!.]*.parquet")}
    assert 3 <= len(left) < 24
    assert not killed.exists()
    _, process = begin("killed", 2)
    said = finish(process)
    assert "base/sudoku/default/seed-0 papers: resumed after " in said  # by the first, of its share
    assert "damaged" not in said
    frame = rows(alone)
    pd.testing.assert_frame_equal(rows(killed), frame)
    assert len(frame) == SAMPLES
    assert frame.groupby(["sampler", "length"], sort=False)["example"].apply(list).tolist() == [list(range(8))] * 8
    assert frame["sampler"].unique().tolist() == SAMPLERS
    assert frame["completion"].nunique() == SAMPLES  # drawn apart


def test_several_samples_of_a_problem_are_drawn_apart_and_the_first_is_as_ever(asked, make_policy, sudoku, tmp_path):
    """Three samples each: the first has the draws of an evaluation with one, whatever the shards; files differ in one
    column."""
    run, spec, _ = asked
    spec = replace(spec, samplers={"top2": spec.samplers["top2"]}, lengths=[24])
    examples = sudoku.splits()["test"]

    def made(each, rows_per_batch=3):
        several = replace(spec, samples_per_problem=each, rows_per_batch=rows_per_batch)
        kept = ShardStore(tmp_path / f"{each}-{rows_per_batch}", "x")
        rows = evaluate.evaluate(make_policy(), sudoku, examples, run, several, kept)
        return pd.DataFrame(rows).drop(columns="seconds")

    one, three = made(1), made(3)
    assert "sample" not in one
    assert list(three.columns) == [*one.columns[:7], "sample", *one.columns[7:]]
    assert three["example"].tolist() == [example for example in range(8) for _ in range(3)]
    assert three["sample"].tolist() == [0, 1, 2] * 8
    first = three[three["sample"] == 0].drop(columns="sample").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, one)
    assert three["completion"].nunique() == 24
    pd.testing.assert_frame_equal(made(3, rows_per_batch=7), three)


def test_one_sample_leaves_the_digest_as_it_was(asked):
    assert "samples_per_problem" not in asked[1].values()
    assert replace(asked[1], samples_per_problem=1).digest == asked[1].digest
    assert replace(asked[1], samples_per_problem=2).digest != asked[1].digest


def test_finished_parts_are_kept_and_torn_ones_named_and_made_again(
    asked, make_policy, sudoku, tmp_path, monkeypatch, capsys
):
    made, original = [], ShardStore.write

    def counted(self, name, rows):
        if len(made) == stop:
            raise InputError("enough")
        made.append(name)
        original(self, name, rows)

    def run(kept):
        found = evaluate.evaluate(make_policy(), sudoku, sudoku.splits()["test"], *asked[:2], kept)
        return [{key: value for key, value in row.items() if key != "seconds"} for row in found]

    monkeypatch.setattr(ShardStore, "write", counted)
    stop = None
    whole = run(ShardStore(tmp_path / "whole", "x"))
    every = [part.name for part in evaluate.parts(asked[1], 8)]
    assert made == every
    assert every[:4] == ["top2-24-000000", "top2-24-000003", "top2-24-000006", "top2-32-000000"]
    made, stop = [], 5
    kept = ShardStore(tmp_path / "stopped", "x")
    with pytest.raises(InputError, match="enough"):
        run(kept)
    files = {name: kept.folder / f"{name}.parquet" for name in every}
    torn, altered, others = every[1:4]
    files[torn].write_bytes(files[torn].read_bytes()[:-200])
    content = bytearray(files[altered].read_bytes())
    content[content.index(b"sudoku")] ^= 1  # still a file that can be read
    files[altered].write_bytes(content)
    original(ShardStore(kept.folder, "y"), others, [{"a": 1}])
    capsys.readouterr()
    made, stop = [], None
    assert run(kept) == whole
    assert made == [torn, altered, others, *every[5:]]
    said = capsys.readouterr()
    assert [line.split(" (")[0] for line in said.err.splitlines()] == [
        f"{files[torn]}: damaged",
        f"{files[altered]}: damaged",
        f"{files[others]}: written with other settings, data, weights or code; recomputing",
    ]
    assert f"resumed after 6 of {SAMPLES} samples" in said.out
    files[every[0]].unlink()
    with pytest.raises(InputError, match=f"{every[0]}.parquet: missing or damaged"):
        kept.join(every)


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows_per_batch=st.integers(1, 9),
    world=st.integers(1, 2),
    lost=st.sets(st.integers(0, 30)),
    eot=st.sampled_from([1, 19]),
)
def test_rows_do_not_depend_on_batch_size_processes_or_interruptions(
    asked, make_policy, sudoku, tmp_path_factory, monkeypatch, rows_per_batch, world, lost, eot
):
    """Any number of rows at once, one or two processes, any shards lost: the same bytes, at temperature 1."""
    run, spec, _ = asked
    spec = replace(spec, samplers={name: spec.samplers[name] for name in ("top2", "random_order", "adaptive_block")})
    examples, folder = sudoku.splits()["test"], tmp_path_factory.mktemp("kept")

    def rows(count, kept, spec):
        """The samples of rank 0 after the other ranks, one after the other in this process."""
        for rank in reversed(range(count)):
            monkeypatch.setattr(distributed, "world", lambda: count)
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(distributed, "barrier", lambda: None)
            policy = make_policy()
            # A token that some responses contain early, others late or never.
            monkeypatch.setattr(type(policy), "eot", eot)
            found = evaluate.evaluate(policy, sudoku, examples, run, spec, kept)
        return without_seconds(found)

    whole = rows(1, ShardStore(folder / "whole", "x"), replace(spec, rows_per_batch=8))
    kept = ShardStore(folder / "parts", "x")
    other = replace(spec, rows_per_batch=rows_per_batch)
    assert rows(world, kept, other) == whole
    shards = evaluate.parts(other, len(examples))
    for index in lost:
        (kept.folder / f"{shards[index % len(shards)].name}.parquet").unlink(missing_ok=True)
    assert rows(3 - world, kept, other) == whole


def test_a_second_evaluation_beside_a_living_one_is_refused(begin, tmp_path):
    from unmask.common.lock import locked

    folder = tmp_path / "run" / "samples-papers.parts"
    with locked(folder, beat=0.2):
        out, process = begin("run")
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"process {os.getpid()} on" in said
    assert not out.exists()
