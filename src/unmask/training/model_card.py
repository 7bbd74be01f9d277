"""Model card of an adapter: README.md in its folder, with the front matter that PEFT and the Hugging Face hub read.

The card says what the adapter was trained from and how to reproduce it. It contains nothing that differs between two
identical runs, such as times or host names. It has no test scores: they are computed from the finished adapter, whose
files, this one included, are sealed by hash.

An exported adapter and an uploaded one have this card with changes, which the last functions make.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.config.schema.introspection import method_class, method_file
from unmask.config.schema.models import HubModel
from unmask.config.specs import ModelSpec, RunSpec
from unmask.methods import method_name

CARD = "README.md"  # where PEFT and the hub look for a card
# Columns of metrics.csv that the card shows, with their labels.
FIGURES = {
    "reward": "mean reward of a response",
    "accuracy": "share of responses that are right (strict)",
    "entropy": "entropy of a drawn token [nats]",
    "nfe": "forward passes a response",
    "tokens": "tokens a response",
}
# The base model in a card, if it is from the hub: repository and revision. TEMPLATE and `_origin` write this line.
ON_HUB = re.compile(r"^\| Base model \| `([^`\n]+)` at revision `([^`\n]+)` \|$", re.MULTILINE)
USE_EXPORTED = """
The modules have the names of the base model's own code, so that stock PEFT applies the adapter to it:

```
from peft import PeftModel
model = PeftModel.from_pretrained(base, "{place}")   # base: the base model, loaded with its own code
```
"""
USE_UPLOADED = """
The modules have the names of unmask. After `hf download {repository} --local-dir adapter`:

```
from unmask.models.policy import Policy
policy = Policy.load("weights", "adapter")   # weights: folder of the base model
```

`src/export_adapter.py` writes an adapter of LoRA under the module names of the base model's own code.
"""
NOT_ON_HUB = """
**The base model is not on the hub.** It is `{base}`, {origin}.{use}
"""
UPLOADED = """
## This repository

`SHA256SUMS` has the hashes of all files. Paths in this card are those of the folder in which the workflow ran; its
other files are not here.
"""
TEMPLATE = """\
---
{front}---

# {title}

{kind} for a masked diffusion language model: {method} on {task}, seed {seed}.

| | |
|---|---|
| Base model | {base} |
| Method | {method} (`src/unmask/methods/{algorithm}.py`){start} |
| Training data | {task}, SHA-256 of `train.parquet` {data} |
| Settings | below, digest {digest} |

## Training

{updates} updates, {skipped} of them skipped. The responses of the last buffer (SFT's are demonstrations):

| | |
|---|---|
{figures}

## Scores

Validation: {validation}.

Test: not in this card, which is part of what is tested. `samples-*.parquet` next to this folder have every answer,
`results/{scale}/scores/` the means and `results/{scale}/tables/` the comparisons.

## Use

```
from unmask.models.policy import Policy
policy = Policy.load("results/{scale}/models/{model}/weights", "results/{scale}/runs/{name}/adapter")
```

## Repeat

```
snakemake --cores all --config scale={config_scale} fidelity={fidelity} -- results/{scale}/runs/{name}/adapter
```

`manifest.json` next to this folder has the commit, the packages and the hashes of all inputs. The settings:

```
{settings}```

## Citation

{citation}

## Licence

The code that made this is under Apache-2.0. {licence}
"""


def model_card(
    run: RunSpec,
    base: ModelSpec | None,
    metrics: Sequence[Mapping[str, Any]],
    data: str,
    scale: str,
    fidelity: str,
) -> str:
    """Return the text of the card.

    `metrics` are the rows of a finished training run, `data` is the SHA-256 of its training split.
    """
    last = metrics[-1]
    # A corpus has no task to score its conversations, and nothing is sampled from the policy.
    unmeasured = ("reward", "accuracy", "entropy", "nfe") if run.corpus else ()
    figures = []
    for key, text in FIGURES.items():
        if key in last and key not in unmeasured:
            figures.append(f"| {text} | {last[key]:.4g} |")

    lora = run.training.lora_rank > 0
    front: dict[str, object] = {"library_name": "peft"} if lora else {}
    front |= {
        "base_model": _repository(base) or run.model,
        "tags": ["masked-diffusion", run.algorithm],
    }
    # Only published weights come with a licence of their own; a scratch model is ours.
    licence = "The base model was made by the same code."
    if base is None or base.source != "scratch":
        licence = "The base model and the data have licences of their own: read them before passing this on."
    return TEMPLATE.format(
        front=yaml.safe_dump(front, sort_keys=False),
        title=run.name,
        kind="A LoRA adapter" if lora else "All weights, trained,",
        method=method_name(run.method, run.variant),
        task=task_name(run.task),
        seed=run.seed,
        base=_origin(run, base),
        algorithm=run.algorithm,
        start=_start(run),
        data=data,
        digest=run.digest,
        updates=last["step"],
        skipped=sum(row.get("skipped", 0) for row in metrics),
        figures="\n".join(figures),
        validation=_validation(metrics),
        scale=scale,
        config_scale=scale.removesuffix(f"-{fidelity}"),
        fidelity=fidelity,
        model=run.model,
        name=run.name,
        settings=yaml.safe_dump(run.values(), sort_keys=False, allow_unicode=True),
        citation=method_class(run.algorithm).citation or f"See `{method_file(run.algorithm)}`.",
        licence=licence,
    )


def _repository(base: ModelSpec | None) -> str | None:
    """Return the base model's name on the hub, or None if it is not from there."""
    if base is None or not isinstance(base.settings, HubModel):
        return None
    return base.settings.repository


def _origin(run: RunSpec, base: ModelSpec | None) -> str:
    """Describe the base model. A local folder is not named, because its path would tie the card to one machine."""
    if base is None:
        return f"`{run.model}`"
    if isinstance(base.settings, HubModel):
        return f"`{base.settings.repository}` at revision `{base.settings.revision}`"
    how = "made by this workflow" if base.source == "scratch" else "a local checkpoint"
    return f"`{run.model}`, {how}, digest {base.digest}; its manifest has the hashes of its files"


def _start(run: RunSpec) -> str:
    """Describe the run that this one started from; empty if there is none."""
    if not run.start_from:
        return ""
    if run.training.merge_start:
        return f", on top of the adapter of `{run.start_from}`, which is part of this one"
    return f", from the adapter of `{run.start_from}`"


def _validation(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Describe the validation accuracy of the policy that was kept, which is the best one on the validation split."""
    seen = [row["validation"] for row in metrics if row.get("validation") is not None]
    if not seen:
        return "not measured in this training"
    how = "accuracy under the papers' scoring, greedy answers"
    return f"{max(seen):.4g} ({how}), the best of {len(seen)}, the latest of equals; this is the policy of that moment"


def hub_base(card: str) -> tuple[str, str] | None:
    """Return repository and revision of the base model that a card names; None if it is not on the hub."""
    found = ON_HUB.search(card)
    return (found[1], found[2]) if found else None


def exported_card(card: str) -> str:
    """Return the card of an adapter for its export under the module names of the base model's own code."""
    return _with_use(card, USE_EXPORTED.format(place="this folder"))


def uploaded_card(card: str, repository: str) -> str:
    """Return a card for the hub's `repository`: how to use it from there, and whether its base model is there, too.

    Raises InputError if the text is no card of this module.
    """
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0] or "\n## Use\n" not in card or "| Base model | " not in card:
        raise InputError("README.md is not a model card that a training run has written")
    front, text = yaml.safe_load(parts[1]), parts[2]
    exported = USE_EXPORTED.format(place="this folder")
    use = USE_UPLOADED.format(repository=repository)
    if exported in card:
        use = USE_EXPORTED.format(place=repository)
    text = _with_use(text, use)

    # On the hub `base_model` is a link; the name of a local model would lead nowhere, or to a model of someone else.
    if hub_base(card) is None:
        title, heading, rest = text.partition("\n| | |\n|---|---|\n| Base model ")
        told = _base_not_on_hub(card, str(front.pop("base_model")), is_adapter="library_name" in front)
        text = f"{title}{told}{heading}{rest}"
    text = text.replace("\n## Repeat\n", f"{UPLOADED}\n## Repeat\n", 1)
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n{text}"


def _with_use(card: str, use: str) -> str:
    """Return the card with another section "Use"; unchanged if it has none."""
    before, heading, after = card.partition("\n## Use\n")
    _, next_heading, rest = after.partition("\n## ")
    return f"{before}{heading}{use}{next_heading}{rest}" if heading else card


def _base_not_on_hub(card: str, base: str, *, is_adapter: bool) -> str:
    """State that a card's base model is not on the hub, and what follows from that."""
    made = "made by this workflow" in card
    origin = "which the workflow trained" if made else "a checkpoint on the disk of the machine that trained this"
    use = " Without its weights this adapter cannot be used" if is_adapter else ""
    if use:
        use += "; the command under Repeat makes both." if made else "."
    return NOT_ON_HUB.format(base=base, origin=origin, use=use)
