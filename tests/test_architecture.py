"""Imports point one way (docs/architecture.md), read from the sources."""

import ast
import graphlib
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FILES = {".".join(f.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): f for f in SRC.rglob("*.py")}
STEPS = sorted(name for name in FILES if not name.startswith("unmask"))

# Room -> the rooms that it may use. What is in no room is used by all and uses none, but for these.
ROOMS = {
    "trainer": {"methods", "rollout", "samplers", "tasks", "models"},
    "methods": {"likelihood", "rollout", "samplers", "tasks", "models"},
    "rollout": {"samplers", "tasks", "models"},
    "likelihood": set(),
    "samplers": set(),
    "tasks": set(),
    "models": set(),
}
# What reads config.yaml; of the rest of the library it uses no more than this.
READING = {
    "grid": {"mistakes", "config", "plain", "spec", "data_files", "files"},
    "mistakes": {"config"},
    "config": set(),
}
BESIDE = {
    "ratios": ROOMS["methods"] | {"methods"},  # what three methods share
    "sequences": {"rollout", "samplers", "tasks", "models"},
    "evaluate": ROOMS["trainer"],
    "pretrain": ROOMS["trainer"],
    "validation": ROOMS["trainer"],
    "exact": {"models"},
    "exact_training": ROOMS["trainer"],
    "diagnostics": {"likelihood", "rollout"},
    "data": {"tasks"},
    "rewarded": {"tasks"},
    **{name: {"models"} for name in ("costs", "compute", "memory", "fitting", "budget")},  # they know shapes
}
ANALYSIS = [
    s for s in STEPS if s.startswith(("render_", "collect_", "show_")) or s in ("check_claims", "compare_methods")
]


def modules(name, anywhere=True):
    """What a module imports, as dotted names; only what runs on its own import, unless `anywhere`."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in FILES else node.module for one in inner}
    return found


def room(name):
    """`unmask.samplers.decode` -> `samplers`."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("unmask.")])
def test_a_room_uses_only_the_rooms_below_it(name):
    mine = room(name)
    used = {room(other) for other in modules(name) if other in FILES} & ROOMS.keys() - {mine}
    assert used <= ROOMS.get(mine, BESIDE.get(mine, set()))


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in READING])
def test_what_reads_the_configuration_points_one_way(name):
    mine = room(name)
    assert {room(other) for other in modules(name) if other in FILES} - {mine} <= READING[mine]


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_imports_a_step(name):
    assert not modules(name) & set(STEPS)


def test_no_file_needs_itself():
    graph = {name: {other for other in modules(name) if other in FILES} for name in FILES}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("step", ["unmask.config.grid.expand", *ANALYSIS])
def test_the_grid_and_the_analysis_need_no_torch(step):
    seen, left, outside = set(), {step}, set()
    while left:
        name = left.pop()
        seen.add(name)
        used = modules(name, anywhere=False)
        outside |= {other.partition(".")[0] for other in used if other not in FILES}
        left |= {other for other in used if other in FILES} - seen
    assert not outside & {"torch", "transformers", "peft", "safetensors", "datasets"}
