# REQUIRED INPUTS:  results/{scale}/runs/{run}/spec.yaml
#                   results/{scale}/models/{model}/weights, spec.yaml
#                   results/{scale}/data/{task}/{train,validation}.parquet
# OUTPUTS:          results/{scale}/runs/{run}/adapter, metrics.csv, manifest.json


rule train_policy:
    """Train one policy and write its adapter, metrics and manifest.

    The folder checkpoints/ beside the adapter is no declared output, so a failed job leaves it and the next resumes.
    SIGTERM is for the training, which answers it with a checkpoint; the shell and tee stay until that is written.
    """
    input:
        spec="results/{scale}/runs/{run}/spec.yaml",
        weights=lambda w: f"results/{w.scale}/models/{GRID.runs[w.run].model}/weights",
        base=lambda w: f"results/{w.scale}/models/{GRID.runs[w.run].model}/spec.yaml",
        start=lambda w: GRID.adapter(GRID.runs[w.run].start_from),
        data=lambda w: f"results/{w.scale}/data/{GRID.runs[w.run].task}/train.parquet",
        validation=lambda w: GRID.validation(w.run),
    output:
        adapter=directory("results/{scale}/runs/{run}/adapter"),
        metrics="results/{scale}/runs/{run}/metrics.csv",
        manifest="results/{scale}/runs/{run}/manifest.json",
    log:
        "logs/train_policy/{scale}/{run}.log",
    benchmark:
        "benchmarks/train_policy/{scale}/{run}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        nodes=1,
        gpu=lambda w: GRID.gpus(w.run),
    params:
        launcher=launcher,
        fidelity=config["fidelity"],
        optional=lambda w, input: [
            f"--{name}={input.get(name)}"
            for name in ("start", "validation")
            if input.get(name)
        ],
    shell:
        r"""
        trap '' TERM USR1
        exec &> >(tee {log:q})
        HF_HUB_OFFLINE=1 {params.launcher:q} "$SRC/train_policy.py" {input.spec:q} \
            --weights {input.weights:q} \
            {params.optional:q} \
            --data {input.data:q} \
            --base {input.base:q} --scale {wildcards.scale} --fidelity {params.fidelity:q} \
            --adapter {output.adapter:q} \
            --metrics {output.metrics:q} \
            --manifest {output.manifest:q}
        """
