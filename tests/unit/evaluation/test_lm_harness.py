"""lm-evaluation-harness on our policies, and our samples as its result files. The first part needs `.[lm-eval]`."""

import importlib.util
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from helpers.paths import ROOT
from unmask.evaluation.harness_files import export

needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")
pytestmark = pytest.mark.usefixtures("no_network")
LENGTH, BLOCK = 16, 8
QUESTIONS = [f"{a} + {b} =" for a in range(2, 5) for b in (5, 7)]


@pytest.fixture
def harness(on_disk):
    """Makes the harness's model of the tiny base model."""
    from unmask.evaluation.lm_harness import HarnessModel

    def make(**arguments):
        settings = {"length": LENGTH, "block_length": BLOCK, "copies": 8, "device": "cpu", "batch_size": 4}
        return HarnessModel(str(on_disk / "weights"), **settings | arguments)

    return make


def request(*arguments):
    """A question as the harness asks it."""
    return type("Instance", (), {"args": arguments})()


def own_samples(policy, questions):
    """The responses to bare questions from the evaluation's own decoding, not through the harness."""
    from unmask.common.seeding import Seeds
    from unmask.config.schema.samplers import TopK
    from unmask.samplers.decode import decode
    from unmask.samplers.settings import DecodingSettings

    ids = [policy.tokenizer(text, add_special_tokens=False).input_ids for text in questions]
    settings = DecodingSettings(LENGTH, BLOCK, TopK(tokens_per_step=1, score="confidence"), 0.0)
    streams = Seeds(("unused at temperature 0",)).streams("x", rows=torch.arange(len(ids)))
    made = decode(policy.model, *policy.pad(ids), settings, eot=policy.eot, streams=streams)
    return [text.partition("<|endoftext|>")[0] for text in policy.texts(made.response)]


def write_tasks(folder, policy):
    """A generation task whose even questions have the model's own answer as gold, and a choice between two texts."""
    folder.mkdir()
    answers = own_samples(policy, QUESTIONS)
    rows = [
        {"q": text, "gold": answer if number % 2 == 0 else "no such answer", "right": number % 2}
        for number, (text, answer) in enumerate(zip(QUESTIONS, answers, strict=True))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{q}}",
    }
    generation = {
        "task": "own_generation", "output_type": "generate_until", "doc_to_target": "{{gold}}",
        "generation_kwargs": {"until": ["\n\n"], "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    choice = {
        "task": "own_choice", "output_type": "multiple_choice", "doc_to_choice": ["9", "12 3"],
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    for task in (generation, choice):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(shared | task), encoding="utf-8")
    return rows


@needs_harness
def test_a_generation_and_a_choice_task_run_through_its_command_line(on_disk, policy, tmp_path):
    """`run_lm_eval.py run --model unmask`: exact match as our own decoding has it, choices as our ELBO ranks them."""
    write_tasks(tmp_path / "tasks", policy)
    arguments = f"model={on_disk / 'weights'},length={LENGTH},block_length={BLOCK},copies=8"
    command = [sys.executable, str(ROOT / "src/run_lm_eval.py"), "run", "--model", "unmask", "--device", "cpu",
               "--model_args", arguments, "--tasks", "own_generation,own_choice", "--include_path", tmp_path / "tasks",
               "--batch_size", "4", "--log_samples", "--output_path", tmp_path / "out"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads(next((tmp_path / "out").rglob("results_*.json")).read_text())
    results = theirs["results"]
    assert (
        results["own_generation"]["exact_match,none"] == 0.5
    )  # the even questions, whose gold is our decoding's answer
    assert results["own_generation"]["sample_len"] == len(QUESTIONS)

    samples = {}
    for file in (tmp_path / "out").rglob("samples_*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            samples[file.name.partition("_2")[0], sample["doc_id"]] = sample
    said = [samples["samples_own_generation", n]["resps"][0][0] for n in range(len(QUESTIONS))]
    assert said == own_samples(policy, QUESTIONS)
    choices = [samples["samples_own_choice", n] for n in range(len(QUESTIONS))]
    scores = [[float(response[0][0]) for response in one["resps"]] for one in choices]
    best = [max(range(2), key=row.__getitem__) for row in scores]
    right = sum(one == number % 2 for number, one in enumerate(best)) / len(QUESTIONS)
    assert results["own_choice"]["acc,none"] == pytest.approx(right)

    # An export has the names and keys of these files, so that what reads them reads it.
    first, *_, last = export(rows(), tmp_path / "export", "m", "2026-01-01T00-00-00")
    sample = json.loads(first.read_text().splitlines()[0])
    assert sample.keys() - {"published"} <= samples["samples_own_generation", 0].keys()
    content = json.loads(last.read_text())
    assert content.keys() <= theirs.keys()
    assert results["own_generation"].keys() <= content["results"]["sudoku-top1-16"].keys()


@needs_harness
def test_the_log_likelihood_of_one_token_is_exact_and_of_more_a_bound_in_expectation(harness, policy):
    model = harness(copies=2)
    tokens = policy.tokenizer("2 + 5 =", add_special_tokens=False).input_ids
    seven = policy.tokenizer("7", add_special_tokens=False).input_ids
    assert len(seven) == 1
    mask = policy.model.config.mask_token_id
    with torch.no_grad():
        wanted = policy.model.log_probs(policy.model.hidden_states(torch.tensor([[*tokens, mask]])))[0, -1]
    (value, greedy), (other, not_greedy) = model.loglikelihood(
        [request("2 + 5 =", "7"), request("2 + 5 =", policy.tokenizer.decode([int(wanted.argmin())]))]
    )
    assert value == pytest.approx(float(wanted[seven[0]]), abs=1e-5)
    assert greedy == (int(wanted.argmax()) == seven[0])
    assert not not_greedy
    assert other < value

    # Two tokens: the ELBO is the mean of both orders, which two passes each give exactly.
    pair = policy.tokenizer("71", add_special_tokens=False).input_ids

    def score(seen, position):
        with torch.no_grad():
            return policy.model.log_probs(policy.model.hidden_states(torch.tensor([[*tokens, *seen]])))[0, position]

    first, second = len(tokens), len(tokens) + 1
    both = score([mask, mask], first)[pair[0]] + score([mask, mask], second)[pair[1]]
    orders = (both + score([pair[0], mask], second)[pair[1]] + score([mask, pair[1]], first)[pair[0]]) / 2
    ((many, _),) = harness(copies=6000).loglikelihood([request("2 + 5 =", "71")])
    assert many == pytest.approx(float(orders), abs=0.3)  # 4.5 standard errors


@needs_harness
def test_requests_do_not_depend_on_one_another(harness):
    model = harness()
    requests = [request(text, {"until": ["7"], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0})
                for text in QUESTIONS]  # fmt: skip
    together = model.generate_until(requests)
    assert harness(batch_size=1).generate_until(requests) == together
    assert harness(seed=1).generate_until(requests) != together
    assert not any("7" in text or "<|endoftext|>" in text for text in together)
    assert model.loglikelihood_rolling([request("2 + 5 = 7")]) == harness().loglikelihood_rolling(
        [request("2 + 5 = 7")]
    )


@needs_harness
def test_wrong_arguments_are_refused(harness):
    from unmask.common.errors import InputError

    with pytest.raises(InputError, match="copies: 3 is no even number"):
        harness(copies=3)
    with pytest.raises(InputError, match="--batch_size: 'auto' is not supported"):
        harness(batch_size="auto")
    with pytest.raises(InputError, match="has no token"):
        harness().loglikelihood([request("2 +", "")])


# --- our samples as its files ----------------------------------------------------------------------------------


def rows(method="dmpo"):
    values = []
    for length in (16, 32):
        for example, (published, points, strict) in enumerate([(1.0, 1, 1.0), (0.5, 4, 0.0), (0.0, 1, 0.0)]):
            values.append(
                {"method": method, "variant": "default", "seed": 0, "task": "sudoku", "sampler": "top1",
                 "length": length, "example": example, "difficulty": 3, "prompt": f"board {example}",
                 "completion": f"say {example}", "gold": "1234", "published": published, "points": points,
                 "strict": strict}
            )  # fmt: skip
    return pd.DataFrame(values)


def test_samples_become_result_files_of_the_harness(tmp_path):
    files = export(rows(), tmp_path, "me/dmpo", "2026-01-01T00-00-00")
    assert [file.name for file in files] == [
        "samples_sudoku-top1-16_2026-01-01T00-00-00.jsonl", "samples_sudoku-top1-32_2026-01-01T00-00-00.jsonl",
        "results_2026-01-01T00-00-00.json",
    ]  # fmt: skip
    assert {file.parent for file in files} == {tmp_path / "me__dmpo"}
    content = json.loads(files[-1].read_text())
    found = content["results"]["sudoku-top1-16"]
    assert found["exact_match,none"] == pytest.approx(1 / 3)
    assert found["published,none"] == 0.5  # 1 + 2 + 0 of 6 points
    assert found["exact_match_stderr,none"] == pytest.approx((2 / 9 * 3 / 2 / 3) ** 0.5)
    samples = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert sum(sample["exact_match"] for sample in samples) / 3 == found["exact_match,none"]
    assert [sample["resps"] for sample in samples] == [[["say 0"]], [["say 1"]], [["say 2"]]]
    with pytest.raises(ValueError, match=r"several policies \(method\)"):
        export(pd.concat([rows(), rows("base")]), tmp_path, "x", "y")
