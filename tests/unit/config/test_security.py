"""What config.yaml and files from elsewhere cannot do: leave the folder, reach a shell, run code."""

import ast
import copy
import os
import pickle

import pytest
import torch
import yaml

from helpers.paths import ROOT
from unmask.common import safe_yaml
from unmask.common.checksums import write_checksums
from unmask.common.errors import InputError
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.models.policy import Policy
from unmask.training.checkpoint import Checkpoint

NAMES = ["a b", "a'b", 'a"b', "a;b", "$(touch x)", "`x`", "a|b", "a&b", "a>b", "a*", "{a}", "..", "../a", "a/b", "/a",
         ".a", "-a", "~a", "a\nb", "a\n", "a\tb", "a\\b", "", "é", "a\x00b", "x" * 300]  # fmt: skip
# Blocks whose keys are names, with one that is there.
KEYS = {
    "methods": "dmpo", "tasks": "sudoku", "models": "smoke", "samplers": "top1", "evaluations": "papers",
    "diagnoses": "surrogates", "fidelities": "corrected", "scales": "smoke", "experiments": "main",
    "exact_toy.curves": "group", "models.smoke.pretraining": "sudoku", "methods.d1.by_task": "sudoku",
    "scales.smoke.methods": "diffu_grpo", "scales.smoke.task_settings": "sudoku",
    "experiments.joint_sampler.grid": "learn",
}  # fmt: skip
# Places that hold a name, or a list of them.
VALUES = {
    "scale": str, "fidelity": str, "training.sampler": str, "methods.d1.algorithm": str, "methods.d1.start_from": str,
    "scales.smoke.model": str, "scales.smoke.tasks": list, "scales.smoke.experiments": list,
    "evaluations.papers.samplers": list, "diagnoses.surrogates.sampler": str, "experiments.main.methods": list,
    "experiments.main.tasks": list, "experiments.main.figures": list, "experiments.main.evaluation": str,
    "experiments.main.rows": str, "exact_toy.curves.group.method": str, "experiments.joint_sampler.grid.learn": list,
    "experiments.joint_sampler.grid.sampler": list, "experiments.main.grid.lora_targets": list,
}  # fmt: skip


def block(config, path):
    for key in path.split(".") if path else ():
        config = config.setdefault(key, {})
    return config


@pytest.mark.parametrize("path", KEYS)
def test_a_block_with_an_odd_name_is_refused(config, path):
    for name in NAMES:
        changed = copy.deepcopy(config)
        block(changed, path)[name] = copy.deepcopy(block(changed, path)[KEYS[path]])
        if path == "scales":
            changed["scale"] = name  # of a scale that is not in use it would be a warning
        with pytest.raises(ConfigError) as caught:
            expand(changed)
        assert any(line.startswith(path.removesuffix(".grid")) for line in caught.value.lines), (
            name,
            caught.value.lines,
        )


@pytest.mark.parametrize("path", VALUES)
def test_an_odd_name_in_place_of_one_is_refused(config, path):
    parent, _, key = path.rpartition(".")
    for name in NAMES:
        changed = copy.deepcopy(config)
        block(changed, parent)[key] = name if VALUES[path] is str else [name]
        with pytest.raises(ConfigError) as caught:
            expand(changed)
        assert any(line.startswith(path) for line in caught.value.lines), (name, caught.value.lines)


def test_free_text_among_grid_values_is_a_plain_name_in_paths(config):
    """`prompt_file` and the like are no settings of methods; were one a grid axis, its value would be made plain."""
    from unmask.config.grid.runs import _text

    for name in NAMES:
        assert not set(_text(name)) - set("abcdefghijklmnopqrstuvwxyz-.~"), name


RUNS = {  # calls that run data as code, or read files that can
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads",
    "torch.load", "torch.jit.load", "np.load", "numpy.load", "pd.read_pickle", "joblib.load", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "subprocess.getoutput",
}  # fmt: skip
# Annotations and `used_if` conditions of files in src/unmask.
ALLOWED = {(file, call) for file in ("introspection.py", "conditions.py") for call in ("eval", "compile")}
# What runs inside the sandbox: programs of a policy, and the tests of a data set.
ALLOWED |= {("candidate.py", call) for call in ("eval", "exec", "compile")}
ALLOWED |= {("checker.py", call) for call in ("exec", "compile")}
ALLOWED |= {("safe_yaml.py", "yaml.load")}  # with a safe loader, see the test


def calls(file):
    """(name, keywords) of every call in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def test_no_call_runs_data():
    """Whatever a model writes or a file holds is never run: the source has no call that could."""
    found = {(file, *call) for file in sorted((ROOT / "src").rglob("*.py")) for call in map(plain, calls(file))}
    assert {(file.name, name) for file, name, _ in found if name in RUNS} == ALLOWED
    assert [words for _, name, words in found if name == "yaml.load"] == [{("Loader", "LOADER")}]
    assert safe_yaml.LOADER in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", None))
    assert not [one for one in found if {("shell", "True"), ("trust_remote_code", "True")} & one[2]]


def plain(call):
    """A call whose keywords can be in a set."""
    return call[0], frozenset(call[1].items())


def test_the_scan_sees_what_it_looks_for(tmp_path):
    (tmp_path / "a.py").write_text("import torch\ntorch.load(x, weights_only=False)\nrun(y, shell=True)\n")
    assert list(calls(tmp_path / "a.py")) == [("torch.load", {"weights_only": "False"}), ("run", {"shell": "True"})]


class Bomb:
    """Reading it from a pickle makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_with_code_in_it_is_damaged_and_the_code_does_not_run(tmp_path, capsys):
    Checkpoint(1, {"a": torch.zeros(1)}, {}, {}, [], {}, {}).save(tmp_path, "x")
    torch.save({"state": Bomb(tmp_path / "went-off")}, tmp_path / "step-000001/optimizer.safetensors")
    write_checksums(tmp_path / "step-000001")
    assert Checkpoint.newest(tmp_path, "x") is None
    assert "damaged" in capsys.readouterr().out
    assert not (tmp_path / "went-off").exists()


def test_an_adapter_with_code_in_it_is_refused_and_the_code_does_not_run(policy, tmp_path):
    policy.model.save_pretrained(tmp_path / "weights")
    policy.tokenizer.save_pretrained(tmp_path / "weights")
    policy.make_trainable(rank=4, alpha=8, dropout=0.0, targets=["q_proj"], seed=0)
    policy.save(tmp_path / "adapter")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    torch.save({"a": Bomb(tmp_path / "went-off")}, tmp_path / "adapter/adapter_model.bin")
    write_checksums(tmp_path / "adapter")
    with pytest.raises(InputError, match=r"adapter: its weights are pickle files \(adapter_model.bin\)"):
        Policy.load(tmp_path / "weights", tmp_path / "adapter", device="cpu")
    assert not (tmp_path / "went-off").exists()


def test_the_bomb_goes_off_where_pickles_are_read(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "went-off")))
    assert (tmp_path / "went-off").exists()
