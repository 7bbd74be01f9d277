"""The rehearsal sees what it is there to see: each of its checks fails on what it should find."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "rehearsal"))

import checkpoints
import checks
import vocabulary

import data
from unmask.models.policy import Policy

STEP = """
import hashlib, sys
import safetensors, torch
file = sys.argv[1]
for _ in range(2):
    with open(file, "rb") as stream:
        hashlib.file_digest(stream, "sha256")
with safetensors.safe_open(file, "pt") as shard:
    head = shard.get_tensor("head")
    assert shard.get_slice("head").get_shape() == list(head.shape)
torch.nn.functional.embedding(torch.tensor([0]), head)
torch.ones(7, 8, requires_grad=True) @ head.T
(head @ torch.ones(8, 5)).sum()
head + 0
"""


class Folder:
    """As much of a project as the checks read."""

    def __init__(self, folder, processes):
        self.folder, self._processes = folder, processes

    def processes(self):
        return self._processes

    def path(self, name):
        return self.folder / name

    def logs(self):
        return sorted(self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the probe says of a step that hashes a weight file twice, takes its tensor once and forms logits."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "src").mkdir()
    (folder / "src/evaluate_policy.py").write_text(STEP, encoding="utf-8")
    save_file({"head": torch.randn(500, 8)}, folder / "model.safetensors")
    asked = {"folder": str(folder), "weights": [str(folder)], "vocabularies": [500], "widths": [8], "threads": 1}
    environment = {"PYTHONPATH": str(ROOT / "rehearsal/probe"), "UNMASK_REHEARSAL": json.dumps(asked)}
    command = [sys.executable, str(folder / "src/evaluate_policy.py"), str(folder / "model.safetensors")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (folder / "processes.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(line), (folder / "model.safetensors").stat().st_size


def test_the_probe_counts_bytes_and_rows(seen):
    line, size = seen
    assert line["read"] == 2 * size
    assert line["mapped"] == 500 * 8 * 4
    assert line["uncounted_opens"] == 0
    assert (line["logits_rows"], line["logits"]) == (7, "aten::mm [7, 500]")  # not the weights, whose rows are tokens
    assert line["peak"] >= line["loaded"] >= line["before"] > 0


def process(**values):
    words = ["python", "src/train_policy.py", "results/s/runs/dmpo/x/default/seed-0/spec.yaml"]
    words += ["--weights", "results/s/models/m/weights"]
    usual = {"script": "train_policy.py", "words": words, "rank": None, "read": 0, "mapped": 100, "uncounted_opens": 0}
    usual |= {"logits_rows": 33, "logits": "aten::mm", "peak": 150, "before": 10, "loaded": 110, "all_read": 0}
    return usual | values


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, None),
        ({"read": 100}, "read 2.00 × the weights"),
        ({"mapped": 0}, "read 0.00 × the weights"),
        ({"uncounted_opens": 1}, "unseen by the probe"),
        ({"script": "prepare_model.py", "read": 100, "mapped": 100}, "read 2.00 × the weights"),
        ({"logits_rows": 256}, "256 rows of logits"),
        ({"logits_rows": 0}, "0 rows of logits"),
        ({"peak": 201}, "more than"),
        ({"loaded": 130}, "loading took 1.20 × the checkpoint"),
        ({"all_read": 2_000_000_000}, "2.0 GB read by files"),
    ],
)
def test_every_check_of_processes_can_fail(tmp_path, values, wrong):
    folder = Folder(tmp_path, [process(**values)])
    found = checks.weights_are_read_once(folder, {"m": 100}) + checks.logits_are_never_whole(folder)
    found += checks.memory_is_bounded(folder, 100, 200, 1.15)
    assert len(found) == (wrong is not None), found
    assert wrong is None or wrong in found[0]


def test_warnings_and_missing_files_are_found(tmp_path):
    folder = Folder(tmp_path, [])
    (tmp_path / "a.log").write_text("x.py:3: UserWarning: odd\nall is well\n", encoding="utf-8")
    assert len(checks.nothing_warned(folder)) == 1
    assert checks.files_are_there(folder, ["a.log", "report.html"]) == ["missing: results/llada-8b/report.html"]


@pytest.mark.parametrize(
    ("write", "special"),
    [
        (checkpoints.write_llada_checkpoint, vocabulary.LLADA_SPECIAL),
        (checkpoints.write_dream_checkpoint, vocabulary.DREAM_SPECIAL),
    ],
)
def test_checkpoints_load_as_published_ones_do(tmp_path, write, special):
    size = write(tmp_path / "model", checkpoints.Size(8, 2, 2, 1, 16), data.texts(), 3)
    files = list((tmp_path / "model").glob("*.safetensors"))
    assert len(files) == 3
    policy = Policy.load(tmp_path / "model", dtype="bfloat16")
    assert 2 * sum(p.numel() for p in policy.model.parameters()) == size
    assert {i: policy.tokenizer.convert_ids_to_tokens(i) for i in special} == special
    odd = "Grüße, 数学 \\frac{1}{2} ≥ 𝟙"
    ids = policy.prompt_ids([{"role": "user", "content": odd}], "")
    assert odd in policy.tokenizer.decode(ids)
    assert max(ids) < len(policy.tokenizer)
