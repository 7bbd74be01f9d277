# REQUIRED INPUTS:  results/{scale}/runs/{run}/metrics.csv
# OUTPUTS:          results/{scale}/tuning/{tuned}.yaml
#                   results/{scale}/tables/tuning.{md,csv}, results/{scale}/figures/tuning.{pdf,png}
#                   the same named tuning-NAME for a further sweep of the scale

TUNING = Job(
    lambda w: f"results/{w.scale}/tuning/{w.tuned}.yaml",
    lambda w: LINEAGE.choice(w.tuned),
    reads=lambda w: LINEAGE.candidates_read(w.tuned),
)
TUNING_TABLE = Job(
    lambda w: f"results/{w.scale}/tables/tuning{w.of}.md",
    lambda w: LINEAGE.tuning(SWEEPS[w.of]),
    reads=choices_of,
)


rule tune:
    """Compare the candidates of every method that the scale tunes; `make adopt-tuning` then puts the choice to use."""
    input:
        f"results/{GRID.place}/figures/tuning.png" if GRID.tuning else [],


for of, sweep in SWEEPS.items():
    if of:

        rule:
            name:
                f"tune_{sweep}"
            input:
                f"results/{GRID.place}/figures/tuning{of}.png",

        workflow.get_rule(f"tune_{sweep}").docstring = (
            f"Compare the candidates of the sweep {sweep}, and repeat no other one."
        )


rule choose_settings:
    """Choose among the candidates of a method on a task, by validation accuracy during training."""
    input:
        metrics=TUNING.input(lambda w: GRID.tuning_metrics(w.tuned)),
    output:
        choice="results/{scale}/tuning/{tuned}.yaml",
    log:
        "logs/choose_settings/{scale}/{tuned}.log",
    wildcard_constraints:
        tuned=one_of(GRID.tuning),
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=TUNING.parameter,
        candidates=lambda w, output: json.dumps(
            [candidate.settings for candidate in GRID.tuning[w.tuned]]
        ),
        runs=lambda w: GRID.tuning_digest(w.tuned),
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/choose_settings.py" {wildcards.tuned:q} {params.candidates:q} {input.metrics:q} \
            --runs {params.runs} --out {output.choice:q}
        """


rule render_tuning:
    """Tabulate and draw the candidates of a sweep."""
    input:
        choices=TUNING_TABLE.input(choices_of),
    output:
        figures=multiext("results/{scale}/figures/tuning{of}", ".pdf", ".png"),
        tables=multiext("results/{scale}/tables/tuning{of}", ".md", ".csv"),
    log:
        "logs/render_tuning/{scale}{of}.log",
    wildcard_constraints:
        # In a group: snakemake ignores an empty pattern, which the sweep without a name has.
        of=one_of(SWEEPS),
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=TUNING_TABLE.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_tuning.py" {input.choices:q} --figures {output.figures:q} --tables {output.tables:q}
        """
