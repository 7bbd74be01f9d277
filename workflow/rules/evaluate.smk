# REQUIRED INPUTS:  results/{scale}/runs/{run}/spec.yaml, adapter (none for the base model)
#                   results/{scale}/evaluations/{evaluation}/spec.yaml
#                   results/{scale}/data/{task}/test.parquet, test/spec.yaml
# OUTPUTS:          results/{scale}/runs/{run}/samples-{evaluation}.parquet
#                   results/{scale}/scores/{experiment}.csv
#                   results/{scale}/metrics/{experiment}.csv


rule evaluate_policy:
    """Evaluate one run on the test split, with all lengths and samplers of one evaluation.

    The folder samples-{evaluation}.parts is not a declared output: a failed job leaves it, and the next one resumes.
    """
    input:
        spec=EVALUATION.input("results/{scale}/runs/{run}/spec.yaml"),
        evaluation=EVALUATION.input(
            "results/{scale}/evaluations/{evaluation}/spec.yaml"
        ),
        weights=EVALUATION.input(lambda w: f"{base_model(w)}/weights"),
        adapter=EVALUATION.input(lambda w: GRID.adapter(w.run)),
        data=EVALUATION.input(
            lambda w: f"results/{w.scale}/data/{GRID.evaluation_task(w.run, w.evaluation)}/test.parquet"
        ),
        test_spec=EVALUATION.input(
            lambda w: f"results/{w.scale}/data/{GRID.evaluation_task(w.run, w.evaluation)}/test/spec.yaml"
        ),
    output:
        samples=update("results/{scale}/runs/{run}/samples-{evaluation}.parquet"),
        manifest=update("results/{scale}/runs/{run}/samples-{evaluation}.json"),
    log:
        "logs/evaluate_policy/{scale}/{run}/{evaluation}.log",
    benchmark:
        "benchmarks/evaluate_policy/{scale}/{run}/{evaluation}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=1,  # a profile may set more: processes share the examples
        mem_mb=memory(1),
        runtime=minutes,
    params:
        digest=EVALUATION.parameter,
        work=lambda w, output: GRID.evaluated(w.run, w.evaluation),
        gpus=lambda w, resources: resources.gpu,
        adapter=lambda w, input: (
            ["--adapter", input.adapter] if input.get("adapter") else []
        ),
    shell:
        r"""
        exec &> >(tee {log:q})
        export HF_HUB_OFFLINE=1
        python "$SRC/launch.py" --gpus {params.gpus} -- "$SRC/evaluate_policy.py" {input.spec:q} \
            --evaluation {input.evaluation:q} \
            --weights {input.weights:q} \
            {params.adapter:q} \
            --data {input.data:q} \
            --test-spec {input.test_spec:q} \
            --samples {output.samples:q} \
            --manifest {output.manifest:q} --digest {params.work}
        """


rule collect_scores:
    """Average the samples of an experiment's runs: one row per run, length and sampler."""
    input:
        samples=SCORES.input(lambda w: GRID.samples(w.experiment)),
    output:
        scores="results/{scale}/scores/{experiment}.csv",
    log:
        "logs/collect_scores/{scale}/{experiment}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=SCORES.parameter,
        steps=lambda w, input: (
            ["--steps"] if GRID.experiments[w.experiment].rows == "steps" else []
        ),
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/collect_scores.py" {input.samples:q} {params.steps:q} --scores {output.scores:q}
        """


rule collect_metrics:
    """Join the training metrics of an experiment's runs."""
    input:
        metrics=METRICS.input(lambda w: GRID.metrics(w.experiment)),
    output:
        metrics="results/{scale}/metrics/{experiment}.csv",
    log:
        "logs/collect_metrics/{scale}/{experiment}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=METRICS.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/collect_metrics.py" {input.metrics:q} --out {output.metrics:q}
        """
