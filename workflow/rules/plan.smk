# REQUIRED INPUTS:  none (what is there is read)
# OUTPUTS:          none (printed, also while a workflow runs; start.smk answers a target that is nothing but plans)

PLANS = {
    "plan": GRID.wanted,
    **{f"plan_{name}": [name] for name in GRID.experiments},
}

for name, experiments in PLANS.items():

    rule:
        """Say of every run how far it is, what it needs and has taken, and what to cancel; refuse what cannot fit."""
        name:
            name
        log:
            f"logs/{name}.log",
        retries: 0  # what does not fit now does not fit at the next attempt
        localrule: True
        conda:
            "../../envs/analysis.yaml"
        params:
            config=json.dumps(config),
            experiments=experiments,
        shell:
            r"""
            python "$SRC/show_plan.py" {params.config:q} --experiments {params.experiments:q} 2>&1 | tee {log:q}
            """


rule pilot:
    """Take the model of the scale the whole way to a table: one seed, one task, ten buffers, results of its own."""
    log:
        "logs/pilot.log",
    localrule: True
    conda:
        "../../envs/controller.yaml"
    params:
        command=f"scale={GRID.scale}-pilot -- main",
    shell:
        """
        echo 'the same as: snakemake --config {params.command}' | tee {log:q}
        exit 1
        """
