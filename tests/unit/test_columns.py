"""docs/columns.md describes every column that the code writes, and no other."""

import ast
import re

import numpy as np
import pandas as pd
import pytest

from helpers.columns import described
from helpers.paths import ROOT
from unmask.analysis.scores import collect

LIBRARY = ROOT / "src/unmask"
# Functions whose literal keys are columns: of metrics.csv besides those of methods, and of the samples.
METRICS = {
    "training/trainer.py": {"_updates", "_step", "_validate"},
    "training/optimizer.py": {"clip"},
    "training/alarm.py": {"mark"},
}
SAMPLES = {"evaluation/evaluate.py": {"_graded_shards", "_graded", "_labels"}}
MEASURED = "dict[str, Tensor]"  # functions that return metrics say so


def keys(function):
    """The text keys of the dictionaries that a function writes, and of those it sets."""
    found = set()
    nodes = list(ast.walk(function))
    choices = [node.value for node in nodes if isinstance(node, ast.Subscript)]  # {"a": f, "b": g}[name]
    for node in nodes:
        if isinstance(node, ast.Dict) and node not in choices:
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        stores = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
        if stores and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            found.add(node.slice.value)
    return found


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def written(places):
    """The keys that the named functions of some files write."""
    found = set()
    for name, wanted in places.items():
        named = {one.name: one for one in functions(LIBRARY / name)}
        assert wanted <= named.keys(), "a function was renamed"
        found |= set().union(*(keys(named[one]) for one in wanted))
    return found


def of_methods():
    """The metrics that methods and the loss that they share return."""
    found = set()
    for file in [*sorted((LIBRARY / "methods").glob("*.py")), LIBRARY / "rl/clipped_ratio.py"]:
        for one in functions(file):
            if one.returns and MEASURED in ast.unparse(one.returns):
                found |= keys(one)
    return found


def test_the_page_has_the_columns_of_metrics():
    ours = {"seconds", "flops", "validation", "validation_strict", "prompts_cut", "head_grad_norm"}
    found = written(METRICS) | of_methods()
    assert ours | {"gamma", "clamped", "effective_sample_size", "gap"} <= found  # the scan sees what is conditional
    assert found == described("metrics.csv") - {"weight_from_X"}  # made of numbers, see test_trainer.py


def test_the_page_has_the_columns_of_samples():
    calls = [
        {word.arg for word in node.keywords}
        for file in sorted((LIBRARY / "tasks").glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Grade.of"
    ]
    of_tasks = set().union(*calls)
    assert {"hack", "solution"} <= of_tasks
    assert written(SAMPLES) | of_tasks == described("samples-EVALUATION.parquet")


@pytest.mark.parametrize("several", [False, True])
def test_the_page_has_the_columns_of_scores(several):
    labels = {"method": "dmpo", "task": "countdown", "variant": "default", "seed": 0, "sampler": "top1", "length": 32}
    graded = {"published": 1.0, "strict": 1.0, "points": 1.0, "nfe": 4, "tokens": 3, "seconds": 0.1, "hack": 0.0}
    rows = [labels | graded | {"example": number // 4, "planned": 2} for number in range(64)]
    frame = pd.DataFrame(rows)
    if several:
        frame = frame.assign(sample=np.arange(64) % 4, answer="1 + 2", solution="1+2")
    found = {re.sub(r"^pass_at_\d+", "pass_at_K", name) for name in collect([frame]).columns}
    page = described("scores/EXPERIMENT.csv")
    of_several = ("pass_at", "distinct", "solution_entropy")
    assert found == (page if several else {name for name in page if not name.startswith(of_several)})


def test_a_column_without_a_description_would_be_found():
    assert keys(ast.parse('def f():\n    m["a"] = 1\n    return x, {"b": 2, **c}')) == {"a", "b"}
    assert "no_such_column" not in described("metrics.csv")
