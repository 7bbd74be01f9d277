"""Everything runs where the policy is: no tensor is made on the default device.

There may be no second device here, so the default one is made a device that cannot compute (meta) while the policy is
on the processor. A tensor made without a device then meets the policy's tensors and fails, as it would with a policy on
a GPU.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch

from unmask import methods
from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import sampler_from
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.evaluation.surrogate_gaps import surrogate_gaps
from unmask.models import adapter_files, loading, threshold_head
from unmask.models.policy import Policy
from unmask.rl.buffer_data import take
from unmask.rl.generation import roll_out
from unmask.training.trainer import Trainer

CASES = {
    **{name: {} for name in ("diffu_grpo", "coupled_grpo", "diffpo", "dmpo", "sft")},
    "dmpo, wddo": {"loss_kind": "wddo"},
    "dmpo, model baseline": {"baseline": "model"},
    "dmpo, trajectory": {"likelihood": "trajectory", "masks": "uniform"},
    "dmpo, effective sample size": {"ess_target": 0.5},
    "diffu_grpo, micro-steps": {"mask_index": "micro_step"},
    "diffpo, adaptive": {"learn": "joint"},
}


@pytest.fixture
def trainer_of(config, policy, sudoku, tmp_path):
    """Makes a trainer of a method with some settings changed, its adapter there."""
    config["experiments"]["methods"]["methods"] = ["sft", "diffu_grpo", "coupled_grpo", "diffpo", "dmpo"]
    runs = expand(config).runs

    def make(name, changes):
        run = runs[f"{name}/sudoku/default/seed-0"]
        if "learn" in changes:
            run = replace(run, sampler=sampler_from(config["samplers"]["adaptive_block"]))
            policy.add_head(run.rollout_sampler, seed=0)
        method = methods.load(run.algorithm, run.method_settings | changes)
        method.begin(policy)
        policy.make_trainable(rank=4, alpha=8, dropout=0.0, targets=["q_proj"], seed=0)
        splits = sudoku.splits()
        return Trainer(run, policy, method, sudoku, splits["train"], tmp_path, "", held_back=splits["validation"])

    return make


@pytest.mark.parametrize("case", CASES)
def test_a_buffer_and_its_losses(trainer_of, case):
    trainer = trainer_of(case.partition(",")[0], CASES[case])
    policy, method, seeds = trainer.policy, trainer.method, trainer.seeds
    examples, settings = trainer._prompts(0), trainer._rollout_settings()

    def losses():
        rollouts = method.collect(policy, trainer.task, examples, settings, seeds)
        buffer_data = method.prepare(policy, rollouts, 2, seeds)
        for update in range(2):
            update_data = method.refresh(policy, rollouts, buffer_data, update, seeds)
            for part in rollouts.parts():
                some = rollouts.part(part), take(buffer_data, part), take(update_data, part)
                rows, metrics = method.loss(policy, *some)
                rows.sum().backward()
                yield from (rows.detach(), *metrics.values())

    wanted = list(losses())
    with torch.device("meta"):
        found = list(losses())
    assert len(found) == len(wanted)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_evaluation(trainer_of, config, temperature, tmp_path):
    config["samplers"]["cached"] = {"rule": "threshold", "confidence": 0.5, "cache": "dual", "guidance": 0.5}
    samplers = ["top2_bfloat16", "random_order", "cached", "adaptive_block", "top1_entropy"]
    config["evaluations"]["papers"] |= {"temperature": temperature, "samplers": samplers, "rows_per_batch": 3}
    trainer = trainer_of("dmpo", {})
    spec = expand(config).evaluations["papers"]
    examples = trainer.task.splits()["test"]
    wanted = evaluate(trainer.policy, trainer.task, examples, trainer.run, spec, ShardStore(tmp_path / "one", "x"))
    with torch.device("meta"):
        found = evaluate(trainer.policy, trainer.task, examples, trainer.run, spec, ShardStore(tmp_path / "other", "x"))
    assert len(found) == 2 * 5 * 8
    assert [row["completion"] for row in found] == [row["completion"] for row in wanted]


def test_a_diagnosis(trainer_of):
    trainer = trainer_of("dmpo", {})
    policy, examples, settings = trainer.policy, trainer._prompts(0), trainer._rollout_settings()
    made = roll_out(policy, trainer.task, examples, settings, trainer.seeds)
    wanted = surrogate_gaps(policy.model, made)
    with torch.device("meta"):
        assert surrogate_gaps(policy.model, made) == wanted


@pytest.fixture
def asked(monkeypatch):
    """Process 1 of a node with two GPUs, as far as this machine can pretend; collects the devices that are asked for.

    What goes to a GPU is noted and stays where it is.
    """
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = []

    def opened(file, framework, device="cpu"):
        devices.append(device)
        return safetensors.safe_open(file, framework)

    def moving(move):
        def moved(self, *args, **options):
            found = [a for a in (*args, *options.values()) if isinstance(a, str | torch.device)]
            devices.extend(found)
            return self if found else move(self, *args, **options)

        return moved

    for module in (loading, adapter_files, threshold_head):
        monkeypatch.setattr(module, "safe_open", opened)
    for kind in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(kind, "to", moving(kind.to))
        monkeypatch.setattr(kind, "cuda", lambda self, device="cuda": devices.append(device) or self)
    return devices


@pytest.mark.parametrize("device", [None, "cuda"])
@pytest.mark.parametrize("rank", [0, 4])
def test_every_tensor_of_a_process_goes_to_its_own_gpu(policy, config, asked, device, rank, tmp_path):
    """safetensors reads "cuda" as GPU 0, whatever torch's current device is."""
    policy.model.save_pretrained(tmp_path / "base")
    policy.tokenizer.save_pretrained(tmp_path / "base")
    policy.add_head(sampler_from(config["samplers"]["adaptive_block"]), seed=0)
    policy.make_trainable(rank=rank, alpha=8, dropout=0.0, targets=["q_proj", "up_proj"], seed=0)
    policy.save(tmp_path / "trained")
    asked.clear()
    there = Policy.load(tmp_path / "base", tmp_path / "trained", device=device, dtype="float32")
    moved = [torch.device(one) for one in asked if str(one) != "cpu"]  # "cpu": headers, and files on their way
    weights = sum("lora_" not in name for name, _ in there.model.named_parameters())
    assert len(moved) == weights + 1  # each weight by itself, and the head; an adapter is made where its base is
    assert set(moved) == {torch.device("cuda", 1)}


def test_a_process_without_a_gpu_of_its_own_is_refused(asked, monkeypatch):
    assert distributed.device() == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="process 1 of this node has no GPU left: 1 visible"):
        distributed.device()


def test_no_module_names_a_gpu_but_the_one_that_knows_the_rank():
    """The word alone is GPU 0 to some libraries; comparisons of a device's type, and NCCL's backend, are fine."""
    sources = Path(distributed.__file__).parents[2].rglob("*.py")
    lines = [line.strip() for file in sources for line in file.read_text().splitlines() if '"cuda' in line]
    allowed = ('.type == "cuda"', 'torch.device("cuda", local_rank())', 'if device == torch.device("cuda"):', "plain")
    assert [line for line in lines if not any(some in line for some in allowed)] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_a_policy_is_there_in_bfloat16(policy, tmp_path):
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    there = Policy.load(tmp_path)
    assert (there.model.device.type, there.model.dtype) == ("cuda", torch.bfloat16)
    ids, mask = there.pad([[2, 3, 4], [5]])
    here = policy.model(ids.cpu(), mask.cpu())
    torch.testing.assert_close(there.model(ids, mask).float().cpu(), here, atol=0.1, rtol=0.1)
    assert Policy.load(tmp_path, dtype="float32").model.dtype == torch.float32
    assert Policy.load(tmp_path, device="cpu").model.dtype == torch.float32
