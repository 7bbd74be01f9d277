"""Print every effective setting of a run, with the layer, the file and the line that set it.

python src/show_settings.py dmpo/countdown --scale laptop
python src/show_settings.py dmpo/countdown --scale llada-8b --fidelity released --all
python src/show_settings.py dmpo/countdown --set methods.dmpo.alpha=0.1,training.buffers=8
"""

import argparse
from pathlib import Path
from typing import Any

from tabulate import tabulate

from unmask.common.errors import InputError, run_step
from unmask.config import overrides
from unmask.config.blame import by_file, shown
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import checked, grid_of
from unmask.config.loading import CONFIG, default_files, merged_config, read_settings, with_defaults
from unmask.config.origins import Origin, origins
from unmask.config.schema import Config, Layer

LONGEST = 60  # characters of a value or a place in the table


def main() -> None:
    """Print the settings of training, then those of the task, then the sampler of the rollouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="METHOD/TASK, such as dmpo/countdown")
    parser.add_argument("--scale", help="a name under `scales`; default: that of the file")
    parser.add_argument("--fidelity", help="a name under `fidelities`; default: that of the file")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="over config.yaml, as given to snakemake"
    )
    overrides.add_option(parser)
    parser.add_argument("--all", action="store_true", help="also list the layers whose value was overridden")
    args = parser.parse_args()

    chosen = [f"{key}={value}" for key in ("scale", "fidelity") if (value := getattr(args, key)) is not None]
    raw, given = overrides.with_overrides(with_defaults(merged_config(args.configfile)), [*chosen, *args.set])
    sources = [(overrides.COMMAND_LINE, given)]
    sources += [(shown(file), read_settings(file)) for file in reversed(args.configfile)]
    try:
        config, warnings = checked(raw)
        grid_of(config, warnings)  # also finds contradictions in merged settings: what is printed is what would run
    except ConfigError as error:
        raise InputError(by_file(error.lines, raw, sources)) from error

    method, _, task = args.run.partition("/")
    for kind, name, known in (("method", method, config.methods), ("task", task, config.tasks)):
        if name not in known:
            raise InputError(f"{args.run}: no {kind} {name!r}; choose one of {', '.join(known)}")

    files, scale = [*default_files(), CONFIG, *args.configfile], config.scales[config.scale]
    found = origins(config.layers_of(method, config.corpus(method) or task), files, given)
    show(f"{args.run} at scale {config.scale}, fidelity {config.fidelity}", found, args)
    show(f"task {task}", origins(config.task_layers_of(task, method), files, given), args)
    layers = [("runtime", config.runtime.model_dump()), (f"scales.{config.scale}.runtime", scale.runtime)]
    show("runtime, which affects no result", origins(layers, files, given), args)
    if "sampler" in found:
        sampler = str(found["sampler"].value)
        show(f"sampler {sampler} of the rollouts", origins(sampler_layers(config, sampler), files, given), args)


def sampler_layers(config: Config, name: str) -> list[Layer]:
    """Return the layer of a sampler: the scale's block replaces the general one as a whole."""
    place = f"samplers.{name}"
    if name in config.scales[config.scale].samplers:
        place = f"scales.{config.scale}.{place}"
    return [(place, config.sampler(name).values())]


def show(title: str, found: dict[str, Origin], args: argparse.Namespace) -> None:
    """Print one table: setting, value, layer and line, and with --all the overridden layers."""
    heads = ["setting", "value", "set by", "line"]
    if args.all:
        heads.append("overrides")

    rows = []
    for key, origin in found.items():
        row = [key, shortened(origin.value), shortened(origin.place), origin.line or "default"]
        if args.all:
            row.append(", ".join(origin.overridden))
        rows.append(row)
    print(f"\n{title}\n")
    print(tabulate(rows, heads, disable_numparse=True))


def shortened(value: Any) -> str:
    """Return a value as text, cut to the width of its column."""
    text = str(value)
    if isinstance(value, list):
        text = ", ".join(map(str, value))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 1]}…"


if __name__ == "__main__":
    run_step(main)
