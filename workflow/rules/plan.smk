# REQUIRED INPUTS:  none (reads whatever exists)
# OUTPUTS:          none (printed, also while a workflow runs; start.smk answers requests that consist of plans only)

PLANS = {
    "plan": GRID.wanted,
    "plan_everything": GRID.everything,
    **{f"plan_{name.removesuffix(GRID.ending)}": [name] for name in GRID.experiments},
}

for name, experiments in PLANS.items():

    rule:
        """Print status, estimated cost and duplicate SLURM jobs of every run; fail if one does not fit into memory."""
        name:
            name
        log:
            f"logs/{name}.log",
        retries: 0  # a run that does not fit now will not fit at the next attempt
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
    """Run the scale's model end to end in its own results folder: one seed, one task, ten buffers, one table."""
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
