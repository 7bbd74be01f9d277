"""How a policy denoises a problem: the passes shown are those of the model, in the step, the page and the notebook."""

import json
import re
import runpy
import sys

import nbformat
import pytest
import torch

from helpers.paths import ROOT
from unmask import tasks
from unmask.common.errors import InputError
from unmask.common.parquet import write_rows
from unmask.config.grid.expand import expand
from unmask.evaluation.denoising import MASKED, Denoising, denoise, load_run
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.tasks import Grade

RUN = "base/sudoku/default/seed-0"
STEP = ROOT / "src/trace_denoising.py"
NOTEBOOK = ROOT / "notebooks/denoising.ipynb"


@pytest.fixture
def folder(config, policy, tmp_path):
    """The folder of a run of the base model, an untrained one, with the files of its scale that the run needs."""
    from unmask.common.checksums import write_checksums

    grid, root = expand(config), tmp_path / "results/smoke"
    run, test = grid.runs[RUN], grid.tests["sudoku"]
    weights = root / "models" / run.model / "weights"
    weights.mkdir(parents=True)
    policy.model.save_pretrained(weights)
    policy.tokenizer.save_pretrained(weights)
    write_checksums(weights)
    for place, spec in (
        (f"runs/{RUN}", run), ("evaluations/papers", grid.evaluations["papers"]), ("data/sudoku/test", test)
    ):  # fmt: skip
        (root / place).mkdir(parents=True)
        spec.write(root / place / "spec.yaml")
    write_rows(root / "data/sudoku/test.parquet", tasks.load("sudoku", test.settings).splits()["test"])
    return root / "runs" / RUN


def step(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [str(STEP), *map(str, words)])
    runpy.run_path(str(STEP), run_name="__main__")


def test_each_pass_commits_what_a_plain_forward_pass_is_most_confident_of(folder, config):
    loaded = load_run(folder)
    one = denoise(loaded, 1, "top1", temperature=0.0)
    model, size = loaded.policy.model, loaded.evaluation.block_length
    prompt = loaded.policy.prompt_ids(loaded.task.messages(loaded.examples[1]), loaded.task.prefill)
    response = torch.tensor(loaded.policy.tokenizer.convert_tokens_to_ids(one.tokens))
    step = torch.tensor(one.step)
    for number, committed in one.frames():
        if number == one.passes:
            break
        # The response before this pass, whole, without caches and batches.
        seen = torch.where(step < number, response, model.config.mask_token_id)
        ids = torch.cat((torch.tensor(prompt), seen))[None]
        columns = torch.arange(len(prompt), ids.shape[1])
        with torch.no_grad():
            log_probs = model.log_probs(model.hidden_states(ids, None, columns[None]))[0]
        best, token = log_probs.max(1)
        block = (seen == model.config.mask_token_id).nonzero().min() // size
        inside = torch.arange(len(seen)) // size == block
        best[~inside | (seen != model.config.mask_token_id)] = -torch.inf
        assert committed == [int(best.argmax())]
        assert int(response[committed[0]]) == int(token[committed[0]])


def test_the_response_is_the_one_that_an_evaluation_stores(folder, config, tmp_path):
    loaded = load_run(folder)
    run = expand(config).runs[RUN]
    kept = ShardStore(tmp_path / "parts", "x")
    for row in evaluate(loaded.policy, loaded.task, loaded.examples, run, loaded.evaluation, kept):
        if row["example"] in (0, 3):
            one = denoise(loaded, row["example"], row["sampler"], row["length"])
            assert (one.text, one.passes, one.question) == (row["completion"], row["nfe"], row["prompt"])
            assert (one.grade.published, one.grade.strict) == (row["published"], row["strict"])


def test_frames_texts_and_pages_of_a_response_by_hand():
    tokens = ["a", "<b>", "\n", "end", "end"]
    one = Denoising("1 < 2?", "yes", tokens, [1, 0, 1, 2, 2], 2, "".join(tokens), Grade("a", 0.5, 0.0))
    assert list(one.frames()) == [(0, [1]), (1, [0, 2]), (2, [3, 4])]
    assert str(one).splitlines() == [
        "question: 1 < 2?", "response of 5 tokens in 2 passes",
        "pass 0: positions 1", f"    {MASKED}[<b>]{MASKED}{MASKED}{MASKED}",
        "pass 1: positions 0, 2", f"    [a]<b>[⏎]{MASKED}{MASKED}",
        "after the end of text, without a pass: positions 3, 4", "    a<b>⏎[end][end]",
        "answer 'a', gold 'yes': published 0.5, strict 0",
    ]  # fmt: skip
    page = one.page()
    assert "1 &lt; 2?" in page
    assert "<b>&lt;b&gt;</b>" in page  # the second <b> is what the model wrote
    assert not re.search(r"<script|src=|href=|url\(|import", page)


def test_the_step_prints_the_same_from_a_run_and_from_weights(folder, monkeypatch, capsys, tmp_path):
    one = denoise(load_run(folder), 2)
    page = tmp_path / "page.html"
    step(monkeypatch, folder, "--problem", 2, "--html", page)
    assert capsys.readouterr().out == f"{one}\n"
    assert page.read_text(encoding="utf-8") == one.page()
    weights = folder.parents[4] / "models" / "smoke/sudoku/seed-0/weights"
    step(monkeypatch, "--weights", weights, "--task", "sudoku", "--scale", "smoke", "--problem", 2)
    assert capsys.readouterr().out == f"{one}\n"


@pytest.mark.parametrize(("choice", "named"), [
    ({"problem": -1}, "--problem: -1 is not between 0 and"),
    ({"problem": 10**6}, "--problem"),
    ({"sampler": "top9"}, "--sampler: papers has no 'top9', only top1"),
    ({"length": 3}, "--length: 3 is no multiple of the block length"),
    ({"temperature": -1.0}, "--temperature: -1.0 is not 0 or above"),
])  # fmt: skip
def test_what_does_not_exist_is_named(folder, choice, named):
    with pytest.raises(InputError, match=re.escape(named)):
        denoise(load_run(folder), **{"problem": 0} | choice)


def test_a_run_that_is_not_finished_and_an_unclear_command_line_are_refused(folder, config, monkeypatch):
    unfinished = folder.parents[3] / "dmpo/sudoku/default/seed-0"
    unfinished.mkdir(parents=True)
    expand(config).runs["dmpo/sudoku/default/seed-0"].write(unfinished / "spec.yaml")
    with pytest.raises(InputError, match=re.escape(f"{unfinished / 'adapter'}: no such folder")):
        load_run(unfinished)
    for words in ((), (folder, "--task", "sudoku"), ("--weights", folder)):
        with pytest.raises(SystemExit, match="name either the folder of a run, or --weights and --task"):
            step(monkeypatch, *words)


def test_the_cells_of_the_notebook_run(folder, monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)

    space = {}
    for cell in cells:
        exec("".join(cell["source"]), space)
        if "parameters" in cell["metadata"].get("tags", []):
            space |= {"RUN": str(folder), "PROBLEM": 2}
    one = denoise(load_run(folder), 2)
    assert f"{one}\n" in capsys.readouterr().out
    assert space["one"]._repr_html_() == one._repr_html_()  # what the cell `one` shows
