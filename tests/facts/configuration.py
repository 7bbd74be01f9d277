"""The tables of docs/configuration.md: every key of the configuration, from the schema.

`make configuration` writes them between their markers, and a test fails when they are out of date.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter

from facts.render import between
from unmask.common.atomic import atomic_write
from unmask.config.schema import Config
from unmask.config.schema.checkpoints import HubCheckpoint, LocalCheckpoint, Printed
from unmask.config.schema.exact_toy import Curve, ExactToy
from unmask.config.schema.experiments import Diagnosis, Evaluation, Experiment
from unmask.config.schema.introspection import declared_names, declared_settings
from unmask.config.schema.methods import MethodBlock
from unmask.config.schema.models import HubModel, LocalModel, Pretraining, ScratchModel
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.samplers import Decoding, Sampler
from unmask.config.schema.scales import ExperimentChange, Hardware, Overrides, Scale
from unmask.config.schema.surrogates import Surrogates
from unmask.config.schema.training import Training
from unmask.config.schema.types import FirstRows, GeneratedData, HubData, LocalData, NumpyChoice

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
MARKERS = "<!-- tables: written by make configuration -->", "<!-- end of the tables -->"
NAMES = yaml.safe_load((Path(__file__).parent / "names.yaml").read_text(encoding="utf-8"))
COLUMNS = ["key", "type", "default", "meaning", "in d1, DMPO or TRL", "in the papers"]


@dataclass(frozen=True)
class Table:
    """A block of the configuration: where it is, its class, and the part of names.yaml that has its keys."""

    title: str
    block: Any
    names: str = ""
    without: Any = None  # a class whose keys have their own table


def all_tables() -> list[Table]:
    """The blocks in the order of the page; methods and tasks are those that are declared."""
    methods = {name: declared_settings("methods", name) for name in sorted(declared_names("methods"))}
    tasks = {name: declared_settings("tasks", name) for name in sorted(declared_names("tasks"))}
    rules = get_args(get_args(Sampler)[0])  # the classes of an annotated union
    sources = (HubData, LocalData, GeneratedData)
    return [
        Table("Top level", Config),
        Table("`runtime`", Runtime, "runtime"),
        Table("`training`", Training, "training"),
        Table("`methods.*`", MethodBlock),
        *(Table(f"`methods.{name}`", block, "method") for name, block in methods.items()),
        Table("`samplers.*`", Decoding, "sampler"),
        *(Table(f"`samplers.*` with `rule: {kind(rule)}`", rule, "sampler", Decoding) for rule in rules),
        Table("`evaluations.*`", Evaluation, "evaluation"),
        Table("`diagnoses.*`", Diagnosis),
        Table("`experiments.*`", Experiment),
        Table("`fidelities.*`, and `scales.*` too", Overrides),
        Table("`scales.*`", Scale, "scale", Overrides),
        Table("`scales.*.cost`", Hardware),
        Table("`scales.*.experiment_changes.*`", ExperimentChange),
        *(Table(f"`models.*` with `source: {kind(block)}`", block) for block in (ScratchModel, HubModel, LocalModel)),
        Table("`models.*.pretraining.*`", Pretraining),
        *(Table(f"`tasks.{name}`", block) for name, block in tasks.items()),
        *(Table(f"`train_source`, `test_source` with `source: {kind(block)}`", block) for block in sources),
        *(Table(f"`test_subset` with `rule: {kind(block)}`", block) for block in (FirstRows, NumpyChoice)),
        *(Table(f"`checkpoints.*` with `source: {kind(block)}`", block) for block in (HubCheckpoint, LocalCheckpoint)),
        Table("`checkpoints.*.printed`", Printed),
        Table("`exact_toy`", ExactToy),
        Table("`exact_toy.curves.*`", Curve),
        Table("`surrogates`", Surrogates),
    ]


def kind(block: Any) -> str:
    """The value of `source` or `rule` that chooses a block."""
    properties = schema_of(block)["properties"]
    return str(properties.get("source", properties.get("rule"))["const"])


def schema_of(block: Any) -> dict[str, Any]:
    """The JSON schema of a block."""
    return TypeAdapter(block).json_schema()


def tables() -> str:
    """All tables, each with a heading and the first paragraph of its class's docstring."""
    parts = []
    for table in all_tables():
        text = (inspect.getdoc(table.block) or "").partition("\n\n")[0].replace("\n", " ")
        parts.append("\n\n".join(part for part in (f"### {table.title}", text, rows_of(table)) if part))
    return "\n\n".join(parts)


def rows_of(table: Table) -> str:
    """The table itself, without columns that are empty; nothing for a block without keys."""
    schema = schema_of(table.block)
    others = schema_of(table.without)["properties"] if table.without else {}
    names = NAMES.get(table.names, {})
    rows = []
    for key, field in schema["properties"].items():
        if key in others or "const" in field:
            continue
        name = names.get(key, {})
        code = ", ".join(f"`{one}`" for one in name.get("code", "").split(", ") if one)
        rows.append([f"`{key}`", type_of(field), default_of(field), meaning_of(field), code, name.get("symbol", "")])
    used = [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
    lines = [[COLUMNS[i] for i in used], ["---"] * len(used), *([row[i] for i in used] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if rows else ""


def meaning_of(field: dict[str, Any]) -> str:
    """The description of a field, safe for a cell."""
    return str(field.get("description", "")).replace("|", "\\|").replace("->", "→").rstrip(".")


def default_of(field: dict[str, Any]) -> str:
    """The default of a field; nothing if it has none, or one that only says that the key may be left out."""
    value = field.get("default")
    if value in (None, "", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def type_of(field: dict[str, Any]) -> str:
    """What a key accepts, in words: `integer ≥ 1`, `list of names`, one of some words."""
    if "anyOf" in field:
        return type_of(next(one for one in field["anyOf"] if one.get("type") != "null"))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") in ("integer", "number"):
        return f"{field['type']}{limits_of(field)}"
    if field.get("type") == "array":
        return f"list of {type_of(field['items'])}" if "type" in field["items"] else "list"
    if field.get("type") == "string":
        return "name" if "pattern" in field else "text"
    if field.get("type") == "boolean":
        return "true, false"
    return "block"


def limits_of(field: dict[str, Any]) -> str:
    """The limits of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    even = ["even"] if field.get("multipleOf") == 2 else []
    return f" {', '.join([*limits, *even])}" if limits or even else ""


def rendered() -> str:
    """The document with its tables as they should be."""
    return between(DOCUMENT, MARKERS, tables())


if __name__ == "__main__":
    text = rendered()
    with atomic_write(DOCUMENT) as temporary:
        temporary.write_text(text, encoding="utf-8")
