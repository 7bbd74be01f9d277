# REQUIRED INPUTS:  results/{scale}/exact_toy/spec.yaml
# OUTPUTS:          results/{scale}/exact_toy/curves.csv
#                   results/{scale}/figures/exact_toy.{pdf,png}, results/{scale}/tables/exact_toy.{md,tex,csv}
#                   results/{scale}/surrogates/{spec.yaml,errors.csv}, results/{scale}/figures/surrogates.{pdf,png}
#                   results/{scale}/tables/{surrogates,surrogates-claims}.{md,csv}


rule exact_toy:
    """Compare distribution matching with reward maximisation where every response can be enumerated."""
    input:
        f"results/{GRID.place}/figures/exact_toy.png",


rule run_exact_toy:
    """Train a table of logits with each method and measure its distance from the target by enumeration."""
    input:
        spec=TOY.input("results/{scale}/exact_toy/spec.yaml"),
    output:
        curves="results/{scale}/exact_toy/curves.csv",
    log:
        "logs/run_exact_toy/{scale}.log",
    benchmark:
        "benchmarks/run_exact_toy/{scale}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        digest=TOY.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/run_exact_toy.py" {input.spec:q} {output.curves:q}
        """


rule render_exact_toy:
    """Draw the curves of the exact toy and tabulate their final values."""
    input:
        curves=TOY_FIGURE.input("results/{scale}/exact_toy/curves.csv"),
    output:
        figures=report(
            multiext("results/{scale}/figures/exact_toy", ".pdf", ".png"),
            caption="../report/exact_toy.rst",
            category="Figures",
            labels={"experiment": "exact_toy"},
        ),
        tables=multiext("results/{scale}/tables/exact_toy", ".md", ".tex", ".csv"),
    log:
        "logs/render_exact_toy/{scale}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=TOY_FIGURE.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_exact_toy.py" {input.curves:q} --figures {output.figures:q} --tables {output.tables:q}
        """


rule surrogates:
    """Hold every surrogate of the log-ratio against its exact value."""
    input:
        f"results/{GRID.place}/figures/surrogates.png",


rule run_surrogates:
    """Enumerate the errors of every surrogate on a table of logits, by distance from the old policy."""
    input:
        spec=SURROGATES.input("results/{scale}/surrogates/spec.yaml"),
    output:
        errors="results/{scale}/surrogates/errors.csv",
    log:
        "logs/run_surrogates/{scale}.log",
    benchmark:
        "benchmarks/run_surrogates/{scale}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        digest=SURROGATES.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/run_surrogates.py" {input.spec:q} {output.errors:q}
        """


rule render_surrogates:
    """Draw and tabulate the errors of surrogates, and test the claims that they decide."""
    input:
        errors=SURROGATES_FIGURE.input("results/{scale}/surrogates/errors.csv"),
    output:
        figures=report(
            multiext("results/{scale}/figures/surrogates", ".pdf", ".png"),
            caption="../report/surrogates.rst",
            category="Figures",
            labels={"experiment": "surrogates"},
        ),
        md="results/{scale}/tables/surrogates.md",
        csv="results/{scale}/tables/surrogates.csv",
        verdicts="results/{scale}/tables/surrogates-claims.md",
        differences="results/{scale}/tables/surrogates-claims.csv",
    log:
        "logs/render_surrogates/{scale}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=SURROGATES_FIGURE.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_surrogates.py" {input.errors:q} --claims "$SRC/../workflow/resources/surrogate_claims.yaml" \
            --scale {wildcards.scale:q} --figures {output.figures:q} \
            --md {output.md:q} --csv {output.csv:q} --verdicts {output.verdicts:q} --differences {output.differences:q}
        """
