# REQUIRED INPUTS:  none (the configuration, through GRID)
# OUTPUTS:          results/{scale}/{item}/spec.yaml
#                   results/{scale}/data/{task}/{train,validation,test}.parquet, manifest.json
#                   results/{scale}/models/{model}/weights, manifest.json


rule write_spec:
    """Freeze the settings of a run, model, dataset or evaluation; the file is rewritten only if they change."""
    output:
        "results/{scale}/{item}/spec.yaml",
    log:
        "logs/write_spec/{scale}/{item}.log",
    wildcard_constraints:
        item=one_of(GRID.all_specs),
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        kind=lambda w, output: type(GRID.all_specs[w.item]).__name__,
        digest=written_spec,
        values=lambda w, output: GRID.all_specs[w.item].to_json(),
    shell:
        r"""
        python "$SRC/write_spec.py" {params.kind} {params.values:q} {output:q} &>{log:q}
        """


rule prepare_dataset:
    """Generate or fetch the training and validation examples of a task."""
    input:
        spec=DATA.input("results/{scale}/data/{task}/spec.yaml"),
    output:
        update("results/{scale}/data/{task}/train.parquet"),
        update("results/{scale}/data/{task}/validation.parquet"),
        manifest=update("results/{scale}/data/{task}/manifest.json"),
    log:
        "logs/prepare_dataset/{scale}/{task}.log",
    benchmark:
        "benchmarks/prepare_dataset/{scale}/{task}.tsv"
    localrule: True  # may download; compute nodes often have no network
    conda:
        "../../envs/train.yaml"
    params:
        folder=lambda w, output: os.path.dirname(output[0]),
        digest=DATA.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/prepare_dataset.py" {input.spec:q} {params.folder:q}
        """


use rule prepare_dataset as prepare_test_dataset with:
    input:
        spec=TEST_DATA.input("results/{scale}/data/{task}/test/spec.yaml"),
    output:
        update("results/{scale}/data/{task}/test.parquet"),
        manifest=update("results/{scale}/data/{task}/test/manifest.json"),
    log:
        "logs/prepare_dataset/{scale}/{task}-test.log",
    benchmark:
        "benchmarks/prepare_dataset/{scale}/{task}-test.tsv"
    params:
        folder=lambda w, output: os.path.dirname(output[0]),
        digest=TEST_DATA.parameter,


rule prepare_model:
    """Provide a base model: copy or train a tiny one, or fetch, verify and link a published one."""
    input:
        spec=MODEL.input("results/{scale}/models/{model}/spec.yaml"),
        data=MODEL.input(lambda w: GRID.model_data(w.model)),
    output:
        weights=update(directory("results/{scale}/models/{model}/weights")),
        manifest=update("results/{scale}/models/{model}/manifest.json"),
    log:
        "logs/prepare_model/{scale}/{model}.log",
    benchmark:
        "benchmarks/prepare_model/{scale}/{model}.tsv"
    priority: 1  # most other jobs wait for it
    # Published models may be downloaded, so they are prepared locally; models from scratch have tasks and are jobs.
    localrule: not any(model.tasks for model in GRID.models.values())
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=memory(1),
        runtime=minutes,
    params:
        digest=MODEL.parameter,
        pretrained=lambda w, input: (
            ["--pretrained", f"{SRC}/../workflow/resources/pretrained/{w.model}"]
            if GRID.models[w.model].pretrained
            else []
        ),
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/prepare_model.py" {input.spec:q} {params.pretrained:q} \
            --weights {output.weights:q} \
            --data {input.data:q} \
            --manifest {output.manifest:q}
        """
