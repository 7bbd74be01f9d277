# REQUIRED INPUTS:  results/{scale}/checkpoints/{released}/spec.yaml
#                   results/{scale}/models/{model}/weights (the base model of the checkpoint)
#                   results/{scale}/evaluations/{evaluation}/spec.yaml
#                   results/{scale}/data/{task}/test.parquet, test/spec.yaml
# OUTPUTS:          results/{scale}/checkpoints/{released}/weights, manifest.json
#                   results/{scale}/checkpoints/{released}/{task}/samples.{parquet,json}
#                   results/{scale}/checkpoints/{released}/table.{md,tex,csv}
#                   results/{scale}/tables/released_checkpoints.{md,tex,csv}
from unmask.analysis.released_description import descriptions


rule prepare_checkpoint:
    """Fetch a released checkpoint, check that it fits its base model, and link its files."""
    input:
        spec=CHECKPOINT.input("results/{scale}/checkpoints/{released}/spec.yaml"),
        base=CHECKPOINT.input(base_of_checkpoint),
    output:
        weights=update(directory("results/{scale}/checkpoints/{released}/weights")),
        manifest=update("results/{scale}/checkpoints/{released}/manifest.json"),
    log:
        "logs/prepare_checkpoint/{scale}/{released}.log",
    benchmark:
        "benchmarks/prepare_checkpoint/{scale}/{released}.tsv"
    localrule: True  # may download; compute nodes often have no network
    conda:
        "../../envs/train.yaml"
    params:
        digest=CHECKPOINT.parameter,
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/prepare_checkpoint.py" {input.spec:q} \
            --base {input.base:q} \
            --weights {output.weights:q} \
            --manifest {output.manifest:q}
        """


rule evaluate_checkpoint:
    """Evaluate a released checkpoint and its base model on a task, one after the other in one job.

    The folder samples.parts is not a declared output: a failed job leaves it, and the next one resumes.
    """
    input:
        weights=RELEASED.input("results/{scale}/checkpoints/{released}/weights"),
        base=RELEASED.input(base_of_checkpoint),
        evaluation=RELEASED.input(
            lambda w: f"results/{w.scale}/evaluations/{GRID.checkpoints[w.released].evaluation}/spec.yaml"
        ),
        data=RELEASED.input("results/{scale}/data/{task}/test.parquet"),
        test_spec=RELEASED.input("results/{scale}/data/{task}/test/spec.yaml"),
    output:
        samples=update("results/{scale}/checkpoints/{released}/{task}/samples.parquet"),
        manifest=update("results/{scale}/checkpoints/{released}/{task}/samples.json"),
    log:
        "logs/evaluate_checkpoint/{scale}/{released}/{task}.log",
    benchmark:
        "benchmarks/evaluate_checkpoint/{scale}/{released}/{task}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=1,  # a profile may set more: processes share the examples
        mem_mb=memory(1),
        runtime=minutes,
    params:
        digest=RELEASED.parameter,
        work=lambda w, output: evaluated(GRID, w.released, w.task),
        gpus=lambda w, resources: resources.gpu,
        dtype=lambda w, output: GRID.checkpoints[w.released].spec.dtype,
        quantisation=lambda w, output: GRID.checkpoints[w.released].spec.quantisation,
    shell:
        r"""
        exec &> >(tee {log:q})
        export HF_HUB_OFFLINE=1
        python "$SRC/launch.py" --gpus {params.gpus} -- "$SRC/evaluate_checkpoint.py" {input.weights:q} \
            --base {input.base:q} \
            --task {wildcards.task} \
            --evaluation {input.evaluation:q} \
            --data {input.data:q} \
            --test-spec {input.test_spec:q} \
            --dtype {params.dtype} --quantisation {params.quantisation} \
            --name {wildcards.released:q} \
            --samples {output.samples:q} \
            --manifest {output.manifest:q} --digest {params.work}
        """


rule render_checkpoints:
    """Render the table of all released checkpoints: printed numbers, ours, base model and gain."""
    input:
        samples=RELEASED_TABLE.input(
            lambda w: [
                path for name in in_catalogue(GRID) for path in samples(GRID, name)
            ]
        ),
    output:
        md="results/{scale}/tables/released_checkpoints.md",
        tex="results/{scale}/tables/released_checkpoints.tex",
        csv="results/{scale}/tables/released_checkpoints.csv",
    log:
        "logs/render_checkpoints/{scale}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        digest=RELEASED_TABLE.parameter,
        checkpoints=lambda w, output: json.dumps(descriptions(GRID, in_catalogue(GRID))),
    shell:
        r"""
        exec &> >(tee {log:q})
        python "$SRC/render_checkpoints.py" {input.samples:q} \
            --checkpoints {params.checkpoints:q} \
            --md {output.md:q} \
            --tex {output.tex:q} \
            --csv {output.csv:q}
        """


use rule render_checkpoints as render_checkpoint with:
    input:
        samples=RELEASED_SINGLE.input(lambda w: samples(GRID, w.released)),
    output:
        md="results/{scale}/checkpoints/{released}/table.md",
        tex="results/{scale}/checkpoints/{released}/table.tex",
        csv="results/{scale}/checkpoints/{released}/table.csv",
    log:
        "logs/render_checkpoints/{scale}/{released}.log",
    params:
        digest=RELEASED_SINGLE.parameter,
        checkpoints=lambda w, output: json.dumps(descriptions(GRID, [w.released])),


rule checkpoints:
    """Evaluate the released checkpoints whose base model this scale uses."""
    input:
        f"results/{GRID.place}/tables/released_checkpoints.md"
        if in_catalogue(GRID)
        else [],


# One target per checkpoint, so that `snakemake checkpoints/NAME` works, also for those apart.
for name in GRID.checkpoints:

    rule:
        name:
            f"checkpoints/{name}"
        input:
            f"results/{GRID.place}/checkpoints/{name}/table.md",
