# REQUIRED INPUTS:  results/{scale}/scores/{experiment}.csv
#                   results/{scale}/runs/{run}/spec.yaml, metrics.csv, manifest.json
#                   results/{scale}/runs/{run}/samples-{evaluation}.parquet
# OUTPUTS:          results/{scale}/tables/{experiment}.{md,tex,csv}
#                   results/{scale}/tables/{experiment}-comparisons.{md,csv}
#                   results/{scale}/figures/{experiment}/{figure}.{pdf,png}
#                   results/{scale}/claims.{md,csv}, all_claims.{md,csv}, field_claims.{md,csv}
#                   results/{scale}/report.html, all_report.html, papers.md, all_papers.md
#                   results/{scale}/speed.{md,csv}, all_speed.{md,csv}
#                   results/{scale}/reports/{experiment}/: report.html, papers.md, claims.{md,csv}, speed.{md,csv} of one experiment

# Folder of the report on one experiment, below results/{scale}.
OWN_REPORT = f"reports/({one_of(GRID.experiments)})/"

# One target rule per experiment: `snakemake report_NAME` makes the page of an experiment of one's own.
for name in GRID.experiments:

    rule:
        name:
            f"report_{name}"
        input:
            GRID.targets(name),
            f"results/{GRID.place}/reports/{name}/report.html",

    workflow.get_rule(f"report_{name}").docstring = f"Report on {name} alone."


rule render_table:
    """Render an experiment's scores as a table: means over seeds with 95 % intervals."""
    input:
        scores=TABLE.input("results/{scale}/scores/{experiment}.csv"),
    output:
        md=report(
            "results/{scale}/tables/{experiment}.md",
            caption="../report/table.rst",
            category="Tables",
            labels={"experiment": "{experiment}"},
        ),
        tex="results/{scale}/tables/{experiment}.tex",
        csv=report(
            "results/{scale}/tables/{experiment}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"experiment": "{experiment}"},
        ),
    log:
        "logs/render_table/{scale}/{experiment}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=TABLE.parameter,
        question=lambda w, input: GRID.experiments[w.experiment].question,
        rows=lambda w, input: GRID.experiments[w.experiment].rows,
        protocol=lambda w, input: LINEAGE.protocol_arguments(w.experiment),
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_table.py" {input.scores:q} \
            --question={params.question:q} \
            --rows {params.rows} \
            --published "$SRC/../workflow/resources/published_results.yaml" \
            --papers "$SRC/../workflow/resources/papers.yaml" \
            {params.protocol:q} \
            --md {output.md:q} \
            --tex {output.tex:q} \
            --csv {output.csv:q}
        """


rule compare_methods:
    """Compare an experiment's methods on the same test problems: paired tests, corrected for multiple comparisons."""
    input:
        samples=COMPARISON.input(lambda w: GRID.samples(w.experiment)),
        metrics=COMPARISON.input(lambda w: GRID.metrics(w.experiment)),
    output:
        md=report(
            "results/{scale}/tables/{experiment}-comparisons.md",
            caption="../report/comparisons.rst",
            category="Tables",
            labels={"experiment": "{experiment}, comparisons"},
        ),
        csv="results/{scale}/tables/{experiment}-comparisons.csv",
    log:
        "logs/compare_methods/{scale}/{experiment}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=COMPARISON.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/compare_methods.py" {input.samples:q} --metrics {input.metrics:q} \
            --title {wildcards.experiment} --md {output.md:q} --csv {output.csv:q}
        """


rule render_figure:
    """Draw one figure of an experiment as PDF and PNG."""
    input:
        scores=FIGURE.input("results/{scale}/scores/{experiment}.csv"),
        metrics=FIGURE.input(lambda w: GRID.metrics(w.experiment)),
        samples=FIGURE.input(lambda w: GRID.samples(w.experiment)),
    output:
        pdf="results/{scale}/figures/{experiment}/{figure}.pdf",
        png=report(
            "results/{scale}/figures/{experiment}/{figure}.png",
            caption="../report/figure.rst",  # wildcards are not substituted here
            category="Figures",
            labels={"experiment": "{experiment}", "figure": "{figure}"},
        ),
    log:
        "logs/render_figure/{scale}/{experiment}/{figure}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=FIGURE.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_figure.py" {wildcards.figure:q} \
            --scores {input.scores:q} \
            --metrics {input.metrics:q} \
            --samples {input.samples:q} \
            --pdf {output.pdf:q} \
            --png {output.png:q}
        """


rule field_claims:
    """Test the claims of the field's other papers, and our own questions, on all experiments that they name."""
    input:
        f"results/{GRID.place}/field_claims.md",


rule check_claims:
    """Test the claims of a file on our samples and training metrics."""
    input:
        samples=CLAIMS.input(
            lambda w: [
                file
                for name in LINEAGE.experiments_of(w.claims)
                for file in GRID.samples(name)
            ]
        ),
        metrics=CLAIMS.input(
            lambda w: [
                f"results/{w.scale}/metrics/{name}.csv"
                for name in LINEAGE.experiments_of(w.claims)
                if GRID.metrics(name)
            ]
        ),
    output:
        md=report(
            "results/{scale}/{claims}.md",
            caption="../report/claims.rst",
            category="Claims",
        ),
        differences="results/{scale}/{claims}.csv",
    log:
        "logs/check_claims/{scale}/{claims}.log",
    wildcard_constraints:
        claims=f"(all_|field_|{OWN_REPORT})?claims",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=CLAIMS.parameter,
        config=lambda w, output: json.dumps(config),
        experiments=lambda w, output: LINEAGE.experiments_of(w.claims),
        resource=lambda w, output: LINEAGE.claims_file(w.claims),
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/check_claims.py" {params.config:q} \
            --experiments {params.experiments:q} \
            --resource "$SRC/../"{params.resource:q} \
            --claims {output.md:q} \
            --differences {output.differences:q}
        """


rule render_report:
    """Render tables, figures, claims and runs as one HTML page: of `all`, of `everything` or of one experiment."""
    input:
        claims=REPORT.input("results/{scale}/{extent}claims.md"),
        differences=REPORT.input("results/{scale}/{extent}claims.csv"),
        toy=REPORT.input(
            lambda w: toy_of(w, "figures/exact_toy.png", "tables/exact_toy.md")
        ),
        results=REPORT.input(
            lambda w: [path for name in reported(w) for path in told(name)]
        ),
    output:
        page="results/{scale}/{extent}report.html",
        papers="results/{scale}/{extent}papers.md",
        speed="results/{scale}/{extent}speed.md",
        speed_numbers="results/{scale}/{extent}speed.csv",
    log:
        "logs/render_report/{scale}/{extent}report.log",
    wildcard_constraints:
        extent=f"|all_|{OWN_REPORT}",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=REPORT.parameter,
        config=lambda w, output: json.dumps(config),
        experiments=lambda w, output: reported(w),
        resource=lambda w, output: LINEAGE.claims_file(f"{w.extent}claims"),
        command=lambda w, output: again(output.page),
        toy=lambda w, input: "--exact-toy" if input.toy else "",
        further=lambda w, output: further_claims(w),
        results=lambda w, output: f"results/{w.scale}",
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_report.py" {params.config:q} \
            --experiments {params.experiments:q} \
            --results {params.results:q} \
            --claims {input.claims:q} \
            --differences {input.differences:q} \
            --resource "$SRC/../"{params.resource:q} {params.further} \
            --papers "$SRC/../workflow/resources/papers.yaml" \
            --published "$SRC/../workflow/resources/published_results.yaml" \
            --papers-md {output.papers:q} \
            --templates "$SRC/../workflow/report" \
            --command {params.command:q} {params.toy} \
            --speed-md {output.speed:q} \
            --speed-csv {output.speed_numbers:q} \
            --out {output.page:q}
        """
