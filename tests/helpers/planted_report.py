"""Planted results with hostile text for the HTML report: everything that the step reads, and the step itself."""

import json
import subprocess
import sys

import pandas as pd
import yaml

from helpers.paths import ROOT
from unmask.common.manifest import signed
from unmask.common.parquet import write_rows
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

EVIL = """</pre></script><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"{{ 7 * 7 }}"""
LINK = "![x](https://example.org/x.png) [y](javascript:alert(3)) <https://example.org>"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (200).to_bytes(4) + (100).to_bytes(4)
MANIFEST = {
    "git": {"commit": "0123456789", "dirty": True}, "device": "cpu <b>", "python": "3.11.7", "seconds": 1800,
    "finished": "2026-01-02T03:04:05+00:00", "packages": {"torch": "2.13.0"},
}  # fmt: skip
METRICS = """step,reward,accuracy,nfe,entropy,loss,validation
1,0.0,nan,4,1,inf,nan
2,0.5,nan,4,2,1,0.25
3,0.25,nan,4,3,2,nan
"""
DMPO = "arXiv 2510.08233v3"
CLAIM = {"experiment": "main", "task": "sudoku", "better": "dmpo", "worse": "base", "sampler": "top1", "length": "mean"}
CLAIMS = [
    CLAIM | {"claim": f"It is better {EVIL}", "source": f"DMPO, {DMPO}, Table 1", "metric": "strict"},
    CLAIM | {"claim": "It needs fewer passes", "source": "d1, arXiv 2504.12216", "metric": "nfe", "direction": "lower"},
    CLAIM | {"claim": "It is better elsewhere", "source": f"DMPO, {DMPO}", "metric": "strict", "experiment": "far"},
]
SURROGATE = {"experiment": "surrogates", "task": "elbo", "better": "a/forwards~2", "worse": "b/forwards~2"}
FURTHER = [
    SURROGATE | {"claim": "Nodes are better", "source": "d1, arXiv 2504.12216, Section 4", "metric": "correlation"}
]
PAPERS = [
    {"name": "DMPO", "arxiv": "2510.08233", "title": f"Matching {EVIL}", "code": "a/b", "methods": ["dmpo"]},
    {
        "name": "d1",
        "arxiv": "2504.12216",
        "title": "Scaling",
        "methods": ["diffu_grpo", "sft"],
        "fidelity": "diffu-GRPO and d1",
    },
]
PAPERS[0] |= {"fidelity": "DMPO", "selection": "by chance", "selection_source": "run.sh:3 at 0123456"}
# The protocol of `main` is another than that of the papers, so that no difference is formed.
PUBLISHED = [
    {"source": f"DMPO, {DMPO}, Table 1", "model": "tiny", "methods": {"dmpo": {"sudoku": {24: 63.8, 256: 60.1}}}},
    {"source": "d1, arXiv 2504.12216", "model": "m", "steps": "L", "methods": {"base": {"gsm8k": {"unstated": 46.6}}}},
]
# Differences by seed and problem: the first claim holds for all of them, the second for none.
OF = "main sudoku dmpo base sampler=top1 length=mean metric"
DIFFERENCES = f"""claim,metric,seed,base_once,0,1,2,3
{OF}=strict,strict,0,False,0.5,0.4,0.6,0.5
{OF}=strict,strict,1,False,0.4,0.5,0.5,0.6
{OF}=nfe,nfe,0,False,3,4,3,4
{OF}=nfe,nfe,1,False,4,3,4,3
"""
PROBLEMS = 40
WIDE = "Setting | " * 14


def config():
    values = load_config() | {"scale": "smoke"}
    main = {"question": EVIL, "section": "main", "methods": ["base", "dmpo"], "tasks": ["sudoku"]}
    main |= {"evaluation": "papers", "figures": ["accuracy_by_length", "training_curves"]}
    steps = {"question": "How far?", "section": "diagnostics", "methods": ["dmpo"], "tasks": ["sudoku"]}
    steps |= {"diagnosis": "surrogates", "figures": ["kl_per_step"], "grid": {"alpha": [0.04, 0.2]}}
    return values | {"experiments": {"main": main, "steps": steps}, "scales": scales(values["scales"])}


def scales(given):
    return {name: scale | {"experiments": ["main"], "experiment_changes": {}} for name, scale in given.items()}


def plant(results):
    """Everything that the report reads or links to, for the experiments of `config`."""
    grid = expand(config())
    table = f"| Method | L = 24 |\n|:--|:--|\n| DMPO {EVIL} | 3 ± 1 |\n"
    # Of the width that tables of published numbers have.
    wide = f"| {WIDE}\n{'|:--' * 14}|\n| {'a cell | ' * 13}last cell |\n"
    texts = {"main": f"# main\n\n{EVIL}\n\nnote {LINK}\n\n## Block\n\n{table}", "main-comparisons": f"# x\n\n{table}"}
    texts |= {"steps": f"# steps\n\nHow far?\n\n{table}", "exact_toy": f"{table}\n\n## {DMPO}\n\n{wide}"}
    for name, text in texts.items():
        write(results / f"tables/{name}.md", text)
        write(results / f"tables/{name}.tex", "")
        write(results / f"tables/{name}.csv", "")
    for name in ("main/accuracy_by_length", "main/training_curves", "steps/kl_per_step", "exact_toy"):
        write(results / f"figures/{name}.png", PNG + name.encode())
        write(results / f"figures/{name}.pdf", "%PDF")
    write(results / "claims.md", f"# Claims\n\nHow to read it: {EVIL}\n\n{table}\n\nNot tested: 1 of x.\n")
    write(results / "claims.csv", DIFFERENCES)
    write(results / "claims.yaml", yaml.safe_dump(CLAIMS))
    for name, content in {"further": FURTHER, "papers": PAPERS, "published": PUBLISHED}.items():
        write(results / f"{name}.yaml", yaml.safe_dump(content))
    scores = []
    for name in dict.fromkeys(run for one in grid.experiments.values() for run in one.runs):
        run, folder = grid.runs[name], results / "runs" / name
        run.write(folder / "spec.yaml")
        columns = {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
        if run.trains:
            write(folder / "metrics.csv", METRICS)
            write(folder / "manifest.json", json.dumps(signed(MANIFEST)))
        scores += [columns | {"sampler": "top1", "length": 24, "strict": strict} for strict in (0.25, 0.5)]
        write_rows(folder / "samples-papers.parquet", [columns | sample(number, run) for number in range(PROBLEMS)])
        write_rows(folder / "diagnosis-surrogates.parquet", [columns])
    write(results / "scores/main.csv", pd.DataFrame(scores).to_csv(index=False))
    write(results / "scores/steps.csv", "")


def sample(number, run):
    """Answer of a run to a problem: the base model is wrong in all of the last half, DMPO in the last ten."""
    right = number < (20 if run.method == "base" else 30)
    found = {"sampler": "top1", "length": 24, "example": number, "prompt": f"problem {number} 4231", "gold": "1"}
    return found | {"completion": f"{run.method} answers {number}: {EVIL}", "strict": float(right), "nfe": 4.0}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def render(results, out="report.html", experiments=("main", "steps"), options=("--exact-toy",)):
    """Run the step on planted results; returns the finished process."""
    page = results / out
    page.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "src/render_report.py"), json.dumps(config()), "--experiments", *experiments]
    command += ["--results", str(results), "--claims", str(results / "claims.md"), *options]
    command += ["--differences", str(results / "claims.csv"), "--resource", str(results / "claims.yaml")]
    command += ["--further", str(results / "further.yaml"), "--papers-md", str(page.with_name("papers.md"))]
    command += ["--papers", str(results / "papers.yaml"), "--published", str(results / "published.yaml")]
    command += ["--templates", str(ROOT / "workflow/report"), "--command", "snakemake <x>", "--out", str(page)]
    command += ["--speed-md", str(page.with_name("speed.md")), "--speed-csv", str(page.with_name("speed.csv"))]
    return subprocess.run(command, capture_output=True, text=True, check=False)
