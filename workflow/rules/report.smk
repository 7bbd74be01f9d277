# REQUIRED INPUTS:  results/{scale}/scores/{experiment}.csv
#                   results/{scale}/runs/{run}/spec.yaml, metrics.csv, manifest.json
#                   results/{scale}/runs/{run}/samples-{evaluation}.parquet
# OUTPUTS:          results/{scale}/tables/{experiment}.{md,tex,csv}
#                   results/{scale}/tables/{experiment}-comparisons.{md,csv}
#                   results/{scale}/figures/{experiment}/{figure}.{pdf,png}
#                   results/{scale}/claims.md, all_claims.md
#                   results/{scale}/report.html, all_report.html


rule render_table:
    """Set an experiment's scores as a table: means over seeds with 95 % intervals."""
    input:
        script=f"{SRC}/render_table.py",
        library=ANALYSIS,
        published=f"{workflow.basedir}/workflow/resources/published_results.yaml",
        scores="results/{scale}/scores/{experiment}.csv",
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
        question=lambda w: GRID.experiments[w.experiment].question,
        rows=lambda w: GRID.experiments[w.experiment].rows,
        protocol=lambda w: protocol_arguments(w.experiment),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {input.scores:q} \
            --question={params.question:q} \
            --rows {params.rows} \
            --published {input.published:q} \
            {params.protocol:q} \
            --md {output.md:q} \
            --tex {output.tex:q} \
            --csv {output.csv:q}
        """


rule compare_methods:
    """Compare an experiment's methods on the same test problems: paired tests, corrected for their number."""
    input:
        script=f"{SRC}/compare_methods.py",
        library=ANALYSIS,
        samples=lambda w: GRID.samples(w.experiment),
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
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {input.samples:q} --title {wildcards.experiment} --md {output.md:q} --csv {output.csv:q}
        """


rule render_figure:
    """Draw one figure of an experiment as PDF and PNG."""
    input:
        script=f"{SRC}/render_figure.py",
        library=ANALYSIS,
        scores="results/{scale}/scores/{experiment}.csv",
        metrics=lambda w: GRID.metrics(w.experiment),
        samples=lambda w: GRID.samples(w.experiment),
    output:
        pdf="results/{scale}/figures/{experiment}/{figure}.pdf",
        png=report(
            "results/{scale}/figures/{experiment}/{figure}.png",
            caption="../report/figure.rst",  # wildcards are not filled in here
            category="Figures",
            labels={"experiment": "{experiment}", "figure": "{figure}"},
        ),
    log:
        "logs/render_figure/{scale}/{experiment}/{figure}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {wildcards.figure:q} \
            --scores {input.scores:q} \
            --metrics {input.metrics:q} \
            --samples {input.samples:q} \
            --pdf {output.pdf:q} \
            --png {output.png:q}
        """


rule check_claims:
    """Test the papers' claims on the scores and training metrics at hand."""
    input:
        script=f"{SRC}/check_claims.py",
        library=ANALYSIS,
        claims=f"{workflow.basedir}/workflow/resources/claims.yaml",
        scores=lambda w: [
            f"results/{w.scale}/scores/{name}.csv" for name in checked(w.claims)
        ],
        metrics=lambda w: [
            f"results/{w.scale}/metrics/{name}.csv"
            for name in checked(w.claims)
            if GRID.metrics(name)
        ],
    output:
        report(
            "results/{scale}/{claims}.md",
            caption="../report/claims.rst",
            category="Claims",
        ),
    log:
        "logs/check_claims/{scale}/{claims}.log",
    wildcard_constraints:
        claims="claims|all_claims",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {input.claims:q} {input.scores:q} \
            --metrics {input.metrics:q} \
            --scale {wildcards.scale:q} \
            --claims {output:q}
        """


rule render_report:
    """Set tables, figures, claims and runs as one HTML page: of the experiments of `all`, or of every one."""
    input:
        script=f"{SRC}/render_report.py",
        library=ANALYSIS,
        report=[f"{SRC}/unmask/{name}.py" for name in ("report", "run_browser")],
        page=f"{workflow.basedir}/workflow/report/page.html.j2",
        captions=[
            f"{workflow.basedir}/workflow/report/{name}.rst"
            for name in ("figure", "exact_toy")
        ],
        claims=lambda w: f"results/{w.scale}/{w.extent}claims.md",
        toy=[
            "results/{scale}/figures/exact_toy.png",
            "results/{scale}/tables/exact_toy.md",
        ],
        results=lambda w: [path for name in reported(w) for path in told(name)],
    output:
        "results/{scale}/{extent}report.html",
    log:
        "logs/render_report/{scale}/{extent}report.log",
    wildcard_constraints:
        extent="|all_",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        config=json.dumps(config),
        experiments=lambda w: reported(w),
        templates=lambda w, input: os.path.dirname(input.page),
        command=lambda w, output: again(output[0]),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.config:q} \
            --experiments {params.experiments:q} \
            --claims {input.claims:q} \
            --templates {params.templates:q} \
            --command {params.command:q} \
            --out {output:q}
        """
