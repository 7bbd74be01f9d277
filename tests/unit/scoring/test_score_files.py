"""score_generations.py on every layout: files of others, our own samples, and broken or hostile ones."""

import contextlib
import json
import random
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from helpers.paths import ROOT
from unmask.analysis.scores import collect
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.evaluation import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.scoring.score_files import score, summaries, summary
from unmask.tasks import load

SCRIPT = ROOT / "src" / "score_generations.py"


def record(answer: str, truth: object = 18.0) -> dict:
    return {"question": "q", "generations": answer, "ground_truth": truth}


def run(*words: object, task: str = "gsm8k", protocol: str = "published") -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--task", task, "--protocol", protocol, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_all_layouts_give_the_same(tmp_path):
    records = [record(r"\boxed{18}"), record(r"\boxed{19}")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    (tmp_path / "b.json").write_text(json.dumps({"generations": records, "metrics": {"wall_time": 1}}, indent=2))
    (tmp_path / "c.json").write_text("\n".join(map(json.dumps, records)))
    frame = pd.DataFrame(
        {"prompt": ["q", "q"], "completion": [r["generations"] for r in records], "gold": ["18", "18"]}
    )
    frame.to_parquet(tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.json", "c.json", "d.parquet"):
        assert summary("gsm8k", "published", score("gsm8k", "published", [tmp_path / name]))["accuracy"] == 50.0
    done = run(tmp_path / "a.jsonl", tmp_path / "b.json", "--samples")
    first, *table = done.stdout.splitlines()
    assert json.loads(first)["total"] == 4
    assert len(table) == 5


def test_broken_lines_are_named_and_count_only_when_told(tmp_path):
    broken = ["{", '{"question": "q"}', "[1]", '{"question": "q", "generations": 5, "ground_truth": 1}', "\xff", "NaN",
              '{"question": "q", "generations": "", "ground_truth": NaN}', "[" * 100_000]  # fmt: skip
    file = tmp_path / "g.jsonl"
    file.write_bytes("\n".join([json.dumps(record(r"\boxed{18}")), *broken]).encode("latin-1"))
    done = run(file)
    assert done.returncode == 1
    assert done.stdout == ""
    assert all(f"{file}:{line}:" in done.stderr for line in range(2, 10))
    assert json.loads(run(file, "--lenient").stdout) == {
        "task": "gsm8k", "protocol": "published", "correct": 1, "total": 9, "accuracy": 11.11
    }  # fmt: skip
    assert "nowhere.json" in run(tmp_path / "nowhere.json").stderr


def test_a_file_cut_off_in_the_middle_is_one_broken_record(tmp_path):
    file = tmp_path / "g.json"
    file.write_text(json.dumps({"generations": [record("1"), record("2")]}, indent=2)[:-30])
    assert [one.broken for one in score("gsm8k", "published", [file])] == [True]


def samples(config, monkeypatch, folder, name, **settings):
    """Our own samples of a task with a terse prompt, as a run leaves them: every third answer is a shortcut."""
    values = config["scales"]["smoke"]["task_settings"].setdefault(name, {})
    values |= {"train": 1, "validation": 1, "test": 30} | settings
    config["scales"]["smoke"]["tasks"] = [name]
    config["models"]["smoke"]["pretraining"][name] = config["models"]["smoke"]["pretraining"]["sudoku"]
    config["experiments"] = {"main": config["experiments"]["main"]}
    for scale in config["scales"].values():
        scale["experiment_changes"] = {}  # of experiments that are no more
    grid = expand(config)
    one = grid.runs[f"base/{name}/default/seed-0"]
    task = load(name, one.task_settings | grid.tests[name].settings)

    examples = task.splits()["test"]

    def decode_as_finished(model, prompt, mask, settings, **options):
        """Responses whose only token is the number of a demonstration."""
        nothing = torch.zeros(len(prompt), 0)
        yield torch.arange(len(prompt)), SimpleNamespace(response=prompt, gamma_logit=nothing, nfe=prompt[:, 0])

    def texts(response):
        made = [task.demonstration(examples[i], 24, i % 3 != 0, random.Random(i)) for i in response[:, 0].tolist()]
        return [text + "<|endoftext|>" for text in made]

    def prompts(policy, task, examples, settings):
        numbers = torch.arange(len(examples))[:, None]
        return numbers, numbers >= 0

    monkeypatch.setattr(evaluate, "decode_as_finished", decode_as_finished)
    monkeypatch.setattr(evaluate, "evaluation_prompts", prompts)
    same = {"add_head": lambda *sampler: None, "judged": lambda texts: texts, "merged": contextlib.nullcontext}
    model = SimpleNamespace(device="cpu", eval=lambda: None)
    policy = SimpleNamespace(model=model, eot=-1, head=None, texts=texts, **same)
    folder.mkdir()
    kept = ShardStore(folder / "parts", "x")
    rows = evaluate.evaluate(policy, task, task.splits()["test"], one, grid.evaluations["papers"], kept)
    pd.DataFrame(rows).to_parquet(folder / "samples-papers.parquet")
    one.write(folder / "spec.yaml")
    return folder / "samples-papers.parquet"


@pytest.mark.parametrize("protocol", ["published", "strict"])
@pytest.mark.parametrize("name", ["sudoku", "countdown", "chain", "simplify"])
def test_our_samples_are_judged_as_when_they_were_made(config, monkeypatch, tmp_path, name, protocol):
    file = samples(config, monkeypatch, tmp_path / "run", name)
    stored = pd.read_parquet(file)
    assert 0 < stored["strict"].mean() < 1
    scored = score(name, protocol, [file], by=("length", "sampler"))
    assert [one.verdict.share for one in scored] == stored[protocol].tolist()
    groups = summaries(name, protocol, scored)
    scores = collect([stored])
    assert len(groups) == 4
    assert [[group["length"], group["sampler"]] for group in groups] == scores[["length", "sampler"]].values.tolist()
    assert [group["accuracy"] for group in groups] == (100 * scores[protocol]).round(2).tolist()


def test_groups_are_printed_after_the_whole(config, monkeypatch, tmp_path):
    file = samples(config, monkeypatch, tmp_path / "run", "countdown")
    done = run(file, file, "--by", "length,file", task="countdown", protocol="strict")
    whole, *groups = map(json.loads, done.stdout.splitlines())
    right = {"task": "countdown", "protocol": "strict", "correct": 160, "total": 240, "accuracy": 66.67}
    assert whole == right
    assert groups == [{"length": n, "file": str(file)} | right | {"correct": 80, "total": 120} for n in (24, 32)]
    assert done.stderr == ""
    assert "no colour to group by; there are method, task" in run(file, "--by", "colour", task="countdown").stderr


def test_samples_without_their_spec_need_to_be_told_the_prompt(config, monkeypatch, tmp_path):
    file = samples(config, monkeypatch, tmp_path / "run", "countdown")
    file.with_name("spec.yaml").unlink()
    done = run(file, task="countdown")
    assert "80 of 120 verdicts are not those stored with the samples" in done.stderr
    assert json.loads(done.stdout)["correct"] == 0
    done = run(file, "--prompt", "terse", task="countdown")
    assert (json.loads(done.stdout)["correct"], done.stderr) == (80, "")


def test_samples_of_another_task_are_broken_records(config, monkeypatch, tmp_path):
    done = run(samples(config, monkeypatch, tmp_path / "run", "countdown"), task="sudoku")
    assert (done.returncode, done.stdout) == (1, "")
    assert "samples-papers.parquet:1: of task countdown, not sudoku\n" in done.stderr
    assert "and 70 more\n120 broken records; fix them, or" in done.stderr


def test_a_gold_that_is_no_sum_makes_no_answer_right(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([record("<answer>?</answer>", "?"), record("", "?")]))
    assert [one.verdict.correct for one in score("simplify", "strict", [tmp_path / "a.json"])] == [0, 0]


HOSTILE = [  # task, question, ground truth
    ("countdown", "", [[10**400, 1, 1], 1]), ("countdown", "", [[1, 1, 1], float("nan")]),
    ("countdown", "", [[], None]),
    ("countdown", "Numbers: [" + "9" * 5000 + "]\nTarget: 1", ""), ("countdown", "", [[1, [2], 3], 4]),
    ("countdown", "Numbers: [१, २, ३]\nTarget: ६", ""), ("sudoku", "0" * 15, "1" * 16), ("sudoku", 5, None),
    ("sudoku", "०" * 16, "1234432121433412"), ("gsm8k", "", 10**400), ("gsm8k", "", "nan"), ("gsm8k", "", [1]),
    ("gsm8k", "", True), ("sudoku", "1234432121433412", "1234432121433412"),
    ("gsm8k", "", {}), ("math500", "", None), ("math500", "", ["1"]), ("simplify", "", True),
]  # fmt: skip


@pytest.mark.parametrize(("task", "question", "truth"), HOSTILE)
@pytest.mark.parametrize("protocol", ["published", "strict"])
def test_a_gold_answer_that_is_none_makes_a_broken_record(tmp_path, task, question, truth, protocol):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"question": question, "generations": "1", "ground_truth": truth}]))
    assert [one.broken for one in score(task, protocol, [file])] == [True]


def test_half_a_character_is_printed_and_a_closed_pipe_is_quiet(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join([json.dumps(record("<answer>\ud800 1 \t é</answer>"))] * 20_000))
    done = run(file, "--samples", task="math500")
    assert done.stdout.splitlines()[2] == f'{file}:1\t0\t1\t"<answer>\\ud800 1 \\t é</answer>"\t'
    command = f"{sys.executable} {SCRIPT} --task gsm8k --protocol published --samples {file} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (json.loads(done.stdout)["total"], done.stderr) == (20_000, "")


def test_files_without_records_or_columns_are_refused(tmp_path):
    for name, content in [("a.jsonl", "\n"), ("a.json", ""), ("b.json", "[]"), ("c.json", '{"generations": []}')]:
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=f"{name}: no records in it"):
            score("gsm8k", "strict", [tmp_path / name])
    pd.DataFrame({"prompt": ["q"]}).to_parquet(tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    for name, said in [("d.parquet", "no column completion, gold"), ("e.parquet", "e.parquet: cannot be read")]:
        with pytest.raises(InputError, match=said):
            score("gsm8k", "strict", [tmp_path / name])
    done = run(tmp_path / "d.parquet")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
