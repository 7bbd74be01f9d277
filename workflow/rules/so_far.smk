# REQUIRED INPUTS:  none (reads the samples and metrics that exist; starts no other job)
# OUTPUTS:          results/{scale}/so_far: tables, figures and claims from the runs finished so far

SO_FAR = {
    "so_far": GRID.wanted,
    **{f"so_far_{name.removesuffix(GRID.ending)}": [name] for name in GRID.experiments},
}

for name, experiments in SO_FAR.items():

    rule:
        """Draw tables, figures and claims from the runs finished so far, each headed by the missing runs."""
        name:
            name
        log:
            f"logs/{name}.log",
        localrule: True
        conda:
            "../../envs/analysis.yaml"
        params:
            config=json.dumps(config),
            experiments=experiments,
            claims=LINEAGE.claims_file(
                "claims" if name == "so_far" else f"reports/{experiments[0]}/claims"
            ),
            resources=f"{CLONE}/workflow/resources",
            out=f"results/{GRID.place}/so_far",
        shell:
            r"""
            python "$SRC/render_so_far.py" {params.config:q} \
                --experiments {params.experiments:q} \
                --published {params.resources:q}/published_results.yaml \
                --papers {params.resources:q}/papers.yaml \
                --claims "$SRC/../"{params.claims:q} \
                --out {params.out:q} 2>&1 | tee {log:q}
            """
