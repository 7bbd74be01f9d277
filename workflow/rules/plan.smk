# REQUIRED INPUTS:  none (what is there is read)
# OUTPUTS:          none (printed, also beside a workflow that runs)

for name, experiments in {
    "plan": GRID.wanted,
    **{f"plan_{name}": [name] for name in GRID.experiments},
}.items():

    rule:
        """Say of every run how far it is, what it needs and has taken, and what to cancel; refuse what cannot fit."""
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
        shell:
            r"""
            python "$SRC/show_plan.py" {params.config:q} --experiments {params.experiments:q} 2>&1 | tee {log:q}
            """
