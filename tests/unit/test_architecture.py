"""Packages import in one order, read from the sources; files of methods, planning and analysis need no torch."""

import ast
import graphlib
import re
import sys

import pytest

from helpers.paths import ROOT

SRC = ROOT / "src"
FILES = {".".join(f.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): f for f in SRC.rglob("*.py")}
STEPS = sorted(name for name in FILES if not name.startswith("unmask"))

# A package may import the packages of earlier entries; those of one entry do not import one another.
ORDER = [
    {"common"},
    {"config"},
    {"sandbox"},
    {"models"},
    {"scoring"},
    {"samplers"},
    {"tasks"},
    {"rl"},
    {"methods"},
    {"planning", "analysis", "evaluation", "training"},
]
RANK = {package: rank for rank, packages in enumerate(ORDER) for package in packages}
TORCH_FREE_STEPS = [
    s for s in STEPS if s.startswith(("render_", "collect_", "show_")) or s in ("check_claims", "compare_methods")
]
TENSOR_LIBRARIES = {"torch", "transformers", "peft", "safetensors", "datasets"}


def imports(name, anywhere=True):
    """Return what a module imports, as dotted names; only what its own import runs, unless `anywhere`."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in FILES else node.module for one in inner}
    return found


def package(name):
    """`unmask.samplers.decode` -> `samplers`."""
    return name.split(".")[1] if "." in name else ""


def test_every_module_is_in_a_package():
    flat = {path.name for path in (SRC / "unmask").glob("*.py")}
    packages = {path.name for path in (SRC / "unmask").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert flat == {"__init__.py"}
    assert packages == RANK.keys()


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("unmask.")])
def test_packages_import_in_order(name):
    mine = package(name)
    for other in imports(name) & FILES.keys():
        assert package(other) == mine or RANK[package(other)] < RANK[mine], other


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_imports_a_step(name):
    assert not imports(name) & set(STEPS)


def test_no_module_imports_itself():
    graph = {name: {other for other in imports(name) if other in FILES} for name in FILES}
    graphlib.TopologicalSorter(graph).prepare()


def reachable(start, anywhere):
    """Return the packages from elsewhere that importing a module imports, directly or through our own modules."""
    seen, left, outside = set(), {start}, set()
    while left:
        name = left.pop()
        seen.add(name)
        used = imports(name, anywhere)
        outside |= {other.partition(".")[0] for other in used if other not in FILES}
        left |= {other for other in used if other in FILES} - seen
    return outside


@pytest.mark.parametrize(
    "start",
    [name for name in FILES if package(name) in ("config", "methods", "planning", "analysis")] + TORCH_FREE_STEPS,
)
def test_config_methods_planning_and_analysis_need_no_torch(start):
    assert not reachable(start, anywhere=False) & TENSOR_LIBRARIES


def test_the_workflow_starts_without_scipy():
    """Every call of snakemake imports what the Snakefile and its rules do; scipy alone takes longer than the rest."""
    files = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    used = {name for text in texts for name in re.findall(r"^ *from (unmask[\w.]*) import", text, flags=re.MULTILINE)}
    assert len(used) >= 15
    used |= {name for name in FILES if package(name) == "methods"}  # read for what they declare
    assert not set().union(*(reachable(name, anywhere=False) for name in used)) & (TENSOR_LIBRARIES | {"scipy"})


DISTRIBUTIONS = {
    "yaml": "pyyaml", "markdown_it": "markdown-it-py", "jinja2": "Jinja2", "markupsafe": "MarkupSafe",
    "math_verify": "math-verify", "pydantic_core": "pydantic",  # which requires one version of its core
}  # fmt: skip


@pytest.mark.parametrize("environment", ["train", "analysis"])
def test_an_environment_pins_what_its_steps_import(environment):
    rules = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    steps = set()
    for rule in re.split(r"^ *(?:rule|checkpoint) ", rules, flags=re.MULTILINE):
        if f"envs/{environment}.yaml" in rule:
            steps |= set(re.findall(r"\$SRC/(\w+)\.py", rule)) & set(STEPS)
    assert len(steps) >= 5

    needed = set().union(*(reachable(step, anywhere=False) for step in steps)) - sys.stdlib_module_names
    pinned = (ROOT / f"envs/{environment}.yaml").read_text(encoding="utf-8")
    assert not [name for name in needed if f"- {DISTRIBUTIONS.get(name, name)}==" not in pinned]
