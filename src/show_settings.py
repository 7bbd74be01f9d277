"""Print every effective setting of a run, with the layer and the line of config.yaml that set it.

python src/show_settings.py dmpo/countdown --scale laptop
python src/show_settings.py dmpo/countdown --scale llada-8b --fidelity released --all
"""

import argparse
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from unmask.common.errors import InputError, run_step
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.grid.pilot import with_pilot
from unmask.config.loading import CONFIG
from unmask.config.normalize import normalise
from unmask.config.origins import Origin, origins
from unmask.config.schema import Config, Layer
from unmask.config.validation import check

LONGEST = 60  # characters of a value or a place in the table


def main() -> None:
    """Print the settings of training, then those of the task, then the sampler of the rollouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="METHOD/TASK, such as dmpo/countdown")
    parser.add_argument("--scale", help="a name under `scales`; default: that of the file")
    parser.add_argument("--fidelity", help="a name under `fidelities`; default: that of the file")
    parser.add_argument("--configfile", type=Path, default=CONFIG)
    parser.add_argument("--all", action="store_true", help="also list the layers whose value was overridden")
    args = parser.parse_args()

    text = args.configfile.read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    chosen = {"scale": args.scale, "fidelity": args.fidelity}
    raw |= {key: value for key, value in chosen.items() if value is not None}
    try:
        expand(raw)  # reports every mistake of the configuration, so that what is printed is what would run
        config = Config.model_validate(check(with_pilot(normalise(raw)))[0])
    except ConfigError as error:
        raise InputError(str(error)) from error

    method, _, task = args.run.partition("/")
    for kind, name, known in (("method", method, config.methods), ("task", task, config.tasks)):
        if name not in known:
            raise InputError(f"{args.run}: no {kind} {name!r}; choose one of {', '.join(known)}")

    found = origins(config.layers_of(method, config.corpus(method) or task), text)
    show(f"{args.run} at scale {config.scale}, fidelity {config.fidelity}", found, args)
    show(f"task {task}", origins(config.task_layers_of(task, method), text), args)
    if "sampler" in found:
        sampler = str(found["sampler"].value)
        show(f"sampler {sampler} of the rollouts", origins(sampler_layers(config, sampler), text), args)


def sampler_layers(config: Config, name: str) -> list[Layer]:
    """Return the layer of a sampler: the scale's block replaces the general one as a whole."""
    place = f"samplers.{name}"
    if name in config.scales[config.scale].samplers:
        place = f"scales.{config.scale}.{place}"
    return [(place, config.sampler(name))]


def show(title: str, found: dict[str, Origin], args: argparse.Namespace) -> None:
    """Print one table: setting, value, layer and line, and with --all the overridden layers."""
    heads = ["setting", "value", "set by", "line"]
    if args.all:
        heads.append("overrides")

    rows = []
    for key, origin in found.items():
        line = f"{args.configfile.name}:{origin.line}" if origin.line else "default"
        row = [key, shortened(origin.value), shortened(origin.place), line]
        if args.all:
            row.append(", ".join(origin.overridden))
        rows.append(row)
    print(f"\n{title}\n")
    print(tabulate(rows, heads, disable_numparse=True))


def shortened(value: Any) -> str:
    """Return a value as text, cut to the width of its column."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 1]}…"


if __name__ == "__main__":
    run_step(main)
