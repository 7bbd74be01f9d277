# REQUIRED INPUTS:  results/{scale}/runs/{run}/spec.yaml, adapter (none for the base model)
#                   results/{scale}/diagnoses/{diagnosis}/spec.yaml
#                   results/{scale}/data/{task}/test.parquet
# OUTPUTS:          results/{scale}/runs/{run}/diagnosis-{diagnosis}.parquet


rule diagnose_policy:
    """Hold the surrogates of one run against its policy, denoising step by denoising step."""
    input:
        spec="results/{scale}/runs/{run}/spec.yaml",
        diagnosis="results/{scale}/diagnoses/{diagnosis}/spec.yaml",
        weights=lambda w: f"results/{w.scale}/models/{GRID.runs[w.run].model}/weights",
        adapter=lambda w: GRID.adapter(w.run),
        data=lambda w: f"results/{w.scale}/data/{GRID.runs[w.run].task}/test.parquet",
    output:
        rows="results/{scale}/runs/{run}/diagnosis-{diagnosis}.parquet",
    log:
        "logs/diagnose_policy/{scale}/{run}/{diagnosis}.log",
    benchmark:
        "benchmarks/diagnose_policy/{scale}/{run}/{diagnosis}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=1,
        mem_mb=memory(1),
        runtime=minutes,
    params:
        adapter=lambda w, input: (
            ["--adapter", input.adapter] if input.get("adapter") else []
        ),
    shell:
        r"""
        exec &> >(tee {log:q})
        HF_HUB_OFFLINE=1 python "$SRC/launch.py" -- "$SRC/diagnose_policy.py" {input.spec:q} \
            --diagnosis {input.diagnosis:q} \
            --weights {input.weights:q} \
            {params.adapter:q} \
            --data {input.data:q} \
            --out {output.rows:q}
        """
