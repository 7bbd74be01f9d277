"""The steps at the smoke scale, each in a process of its own that can be killed, and what they leave on disk.

A process is forked, so that nothing is imported again: a step takes a second or less.
"""

import contextlib
import json
import os
import runpy
import signal
import sys
import time
import traceback
from dataclasses import dataclass

import pandas as pd
import torch

from helpers.paths import ROOT
from unmask import tasks
from unmask.analysis.decoding_protocol import Protocol
from unmask.common.parquet import write_rows
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

RUN = "dmpo/sudoku/default/seed-0"
# Of manifests: what a clock said, what the checkout is like while the tests run, and the hash of it all.
APART = {"seconds", "seconds_training", "finished", "git", "source", "digest"}
EVENTS = {"open", "os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir"}  # replace is rename, unlink is remove
NAMES = (
    "prepare_dataset",
    "prepare_model",
    "train_policy",
    "evaluate_policy",
    "diagnose_policy",
    "collect_scores",
    "render_table",
    "render_figure",
)


def make(folder):
    """Every step, run to its end in a folder of its own below `folder`; returns how each ended."""
    torch.set_num_threads(1)
    config = load_config()
    _write_specs(config | {"scale": "smoke"}, folder)
    test = expand(config | {"scale": "smoke"}).tests["sudoku"]
    test.write(folder / "test.yaml")
    write_rows(folder / "test.parquet", tasks.load("sudoku", test.settings).splits()["test"])
    ended = {name: run(name, folder, folder / name) for name in NAMES}
    assert {name: end.code for name, end in ended.items()} == dict.fromkeys(NAMES, 0), ended
    return ended


def _write_specs(config, folder):
    """Specs of one run and what it needs, and the protocol of its experiment."""
    grid = expand(config)
    grid.datasets["sudoku"].write(folder / "data.yaml")
    grid.models["smoke/sudoku/seed-0"].write(folder / "model.yaml")
    grid.evaluations["papers"].write(folder / "evaluation.yaml")
    grid.diagnoses["surrogates"].write(folder / "diagnosis.yaml")
    for place in ("run.yaml", "train_policy/spec.yaml"):  # the second is read with the metrics beside it
        grid.runs[RUN].write(folder / place)
    (folder / "protocol.json").write_text(Protocol.of(grid, "main").to_json(), encoding="utf-8")


def arguments(name, made, out):
    """The command line of a step that writes into `out`; its inputs are in `made`, a folder a step."""
    data, model, run = made / "prepare_dataset/sudoku", made / "prepare_model", made / "train_policy"
    samples, scores = made / "evaluate_policy/samples-papers.parquet", made / "collect_scores/main.csv"
    base = [made / "run.yaml", "--weights", model / "weights"]
    published = ROOT / "workflow/resources/published_results.yaml"
    words = {
        "prepare_dataset": [made / "data.yaml", out / "sudoku"],
        "prepare_model": [made / "model.yaml", "--weights", out / "weights", "--data", data / "train.parquet",
                          data / "validation.parquet", "--manifest", out / "manifest.json"],
        "train_policy": [*base, "--data", data / "train.parquet",
                         "--validation", data / "validation.parquet", "--adapter", out / "adapter",
                         "--metrics", out / "metrics.csv", "--manifest", out / "manifest.json",
                         "--checkpoint-minutes", 0],
        "evaluate_policy": [*base, "--adapter", run / "adapter", "--data", made / "test.parquet",
                            "--test-spec", made / "test.yaml",
                            "--evaluation", made / "evaluation.yaml", "--samples", out / "samples-papers.parquet"],
        "diagnose_policy": [*base, "--adapter", run / "adapter", "--data", made / "test.parquet",
                            "--test-spec", made / "test.yaml", "--diagnosis", made / "diagnosis.yaml",
                            "--out", out / "diagnosis-surrogates.parquet"],
        "collect_scores": [samples, "--scores", out / "main.csv"],
        "render_table": [scores, "--question", "?", "--published", published,
                         "--papers", published.with_name("papers.yaml"),
                         "--protocol", (made / "protocol.json").read_text(encoding="utf-8"),
                         "--md", out / "main.md", "--tex", out / "main.tex", "--csv", out / "main.csv"],
        "render_figure": ["training_curves", "--scores", scores, "--metrics", run / "metrics.csv",
                          "--samples", samples, "--pdf", out / "main.pdf", "--png", out / "main.png"],
    }  # fmt: skip
    return [str(word) for word in words[name]]


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is negative for a signal; `files` counts what it did to files of its folder."""

    code: int
    said: str
    files: int
    seconds: float


def run(name, made, out, kill_at_file=None, kill_after=None):
    """Run a step to its end, or kill it before that one of its file operations, or after so many seconds."""
    out.mkdir(exist_ok=True)
    log, began = made / f"{name}.log", time.monotonic()
    log.write_text("")
    words = arguments(name, made, out)
    child = os.fork()
    if child == 0:
        _be(name, words, out, log, kill_at_file)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said, _, files = log.read_text(encoding="utf-8").rpartition("\nfiles ")
    return Ended(code, said, int(files or 0) if code >= 0 else 0, time.monotonic() - began)


def _be(name, words, out, log, kill_at_file):
    """The life of the child."""
    done = 0

    def watch(event, details):
        nonlocal done
        if event in EVENTS and str(out) in str(details[0]):
            done += 1
            if done == kill_at_file:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    with contextlib.suppress(BaseException), log.open("w", encoding="utf-8", buffering=1) as sys.stdout:
        sys.stderr = sys.stdout
        sys.argv = [str(ROOT / f"src/{name}.py"), *words]
        sys.addaudithook(watch)
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            print(end)
        except BaseException:
            traceback.print_exc()
        print(f"\nfiles {done}")
    os._exit(code)


def results(out):
    """Content of every file under its final name, without what a clock said; not checkpoints, parts and locks."""
    files = [file for file in out.rglob("*") if file.is_file()]
    plain = {file.relative_to(out).as_posix(): file for file in files}
    apart = (".", "checkpoints/", "lock", "samples-papers.parts/")
    hidden = {name for name in plain if name.startswith(apart) or "/." in name}
    return {name: _content(file) for name, file in plain.items() if name not in hidden | {"spec.yaml"}}


def _content(file):
    if file.name == "manifest.json":
        return {key: value for key, value in json.loads(file.read_text()).items() if key not in APART}
    if file.name == "metrics.csv":
        return pd.read_csv(file).drop(columns="seconds").to_csv()
    if file.name.startswith("samples-"):
        return pd.read_parquet(file).drop(columns="seconds").to_csv()
    return file.read_bytes()
