# What rules ask of the grid and of the profile: no rules, no files.


def protocol_arguments(experiment):
    """How the samples behind a table were made; a diagnosis has none."""
    if GRID.experiments[experiment].rows == "steps":
        return []
    return ["--protocol", Protocol.of(GRID, experiment).to_json()]


def checked(claims):
    """Experiments that claims are tested on: those of `all`, or every one."""
    return GRID.wanted if claims == "claims" else list(GRID.experiments)


def launcher(wildcards, resources):
    """One process on each GPU; SIGTERM reaches them all, and they have the time to answer."""
    count = math.gcd(resources.gpu, GRID.processes(wildcards.run))
    if count == 1:
        return ["python"]
    words = ["torchrun", "--standalone", "--nproc-per-node", str(count)]
    return [
        *words,
        "--signals-to-handle",
        "SIGINT,SIGTERM,SIGUSR1",
        "--shutdown-timeout=280",
    ]
