# REQUIRED INPUTS:  results/{scale}/runs/{run}/spec.yaml, adapter (none for the base model)
#                   results/{scale}/diagnoses/{diagnosis}/spec.yaml
#                   results/{scale}/data/{task}/test.parquet, test/spec.yaml
# OUTPUTS:          results/{scale}/runs/{run}/diagnosis-{diagnosis}.parquet


rule diagnose_policy:
    """Compare the surrogates of one run with its policy at every denoising step."""
    input:
        spec=DIAGNOSIS.input("results/{scale}/runs/{run}/spec.yaml"),
        diagnosis=DIAGNOSIS.input("results/{scale}/diagnoses/{diagnosis}/spec.yaml"),
        weights=DIAGNOSIS.input(lambda w: f"{base_model(w)}/weights"),
        adapter=DIAGNOSIS.input(lambda w: GRID.adapter(w.run)),
        data=DIAGNOSIS.input(
            lambda w: f"results/{w.scale}/data/{GRID.runs[w.run].task}/test.parquet"
        ),
        test_spec=DIAGNOSIS.input(
            lambda w: f"results/{w.scale}/data/{GRID.runs[w.run].task}/test/spec.yaml"
        ),
    output:
        rows=update("results/{scale}/runs/{run}/diagnosis-{diagnosis}.parquet"),
        manifest=update("results/{scale}/runs/{run}/diagnosis-{diagnosis}.json"),
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
        digest=DIAGNOSIS.parameter,
        work=lambda w, output: GRID.diagnosed(w.run, w.diagnosis),
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
            --test-spec {input.test_spec:q} \
            --out {output.rows:q} \
            --manifest {output.manifest:q} --digest {params.work}
        """
