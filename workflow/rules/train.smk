# REQUIRED INPUTS:  results/{scale}/runs/{run}/spec.yaml
#                   results/{scale}/models/{model}/weights, spec.yaml
#                   results/{scale}/data/{task}/{train,validation}.parquet
# OUTPUTS:          results/{scale}/runs/{run}/adapter, metrics.csv, manifest.json


rule train_policy:
    """Train one policy and write its adapter, metrics and manifest.

    The folder checkpoints/ next to the adapter is not a declared output: a failed job leaves it, and the next one
    resumes. Only the trainer reacts to SIGTERM, with a checkpoint; the shell and tee ignore it until that is written.
    On several nodes the job is what the SLURM plugin calls an MPI job, with one task per node, started by the launcher.
    It requests GPUs per node (gres), because SLURM would divide a total unevenly.
    """
    input:
        spec=TRAINING.input("results/{scale}/runs/{run}/spec.yaml"),
        weights=TRAINING.input(lambda w: f"{base_model(w)}/weights"),
        base=TRAINING.input(lambda w: f"{base_model(w)}/spec.yaml"),
        init_adapter=TRAINING.input(lambda w: GRID.adapter(GRID.runs[w.run].start_from)),
        data=TRAINING.input(
            lambda w: f"results/{w.scale}/data/{GRID.runs[w.run].task}/train.parquet"
        ),
        validation=TRAINING.input(lambda w: GRID.validation(w.run)),
    output:
        adapter=update(directory("results/{scale}/runs/{run}/adapter")),
        metrics=update("results/{scale}/runs/{run}/metrics.csv"),
        manifest=update("results/{scale}/runs/{run}/manifest.json"),
    log:
        "logs/train_policy/{scale}/{run}.log",
    benchmark:
        "benchmarks/train_policy/{scale}/{run}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        nodes=lambda w: GRID.nodes(w.run),
        gpu=lambda w: GRID.gpus(w.run) if GRID.nodes(w.run) == 1 else None,
        mem_mb=memory(on_a_node),
        runtime=math.ceil(60 * GRID.cost.training_hours),  # the next attempt resumes
        slurm_extra="--signal=TERM@300",  # 300 s before the time limit: write a checkpoint
        cpus_per_task=lambda w: (8 if GRID.cost.gpu_memory else 2)
        * GRID.gpus(w.run)
        // GRID.nodes(w.run),
        gres=on_several_nodes(lambda nodes, gpus: f"gpu:{gpus}"),
        mpi=on_several_nodes(lambda nodes, gpus: "srun"),
        tasks=on_several_nodes(lambda nodes, gpus: nodes),
        tasks_per_gpu=on_several_nodes(lambda nodes, gpus: 0),
    params:
        digest=TRAINING.parameter,
        gpus=training_gpus,
        nodes=lambda w, resources: GRID.nodes(w.run),
        fidelity=lambda w, resources: config["fidelity"],
        optional=lambda w, input: [
            f"--{name.replace('_', '-')}={input.get(name)}"
            for name in ("init_adapter", "validation")
            if input.get(name)
        ],
    shell:
        r"""
        trap '' TERM USR1
        exec &> >(tee {log:q})
        export PET_RDZV_ENDPOINT=$(hostname):$((20000 + ${{SLURM_JOB_ID:-0}} % 12000))
        export HF_HUB_OFFLINE=1
        python "$SRC/launch.py" --gpus {params.gpus} --nodes {params.nodes} -- \
            "$SRC/train_policy.py" {input.spec:q} \
            --weights {input.weights:q} \
            {params.optional:q} \
            --data {input.data:q} \
            --base {input.base:q} --scale {wildcards.scale} --fidelity {params.fidelity:q} \
            --checkpoint-minutes "$CHECKPOINT_MINUTES" --overwrite-above "$OVERWRITE_ABOVE" \
            --activation-checkpointing "$ACTIVATION_CHECKPOINTING" --trackers $TRACKERS \
            --adapter {output.adapter:q} \
            --metrics {output.metrics:q} \
            --manifest {output.manifest:q}
        """
