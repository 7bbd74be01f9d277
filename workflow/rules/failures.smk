# What happens after a job has failed: which ones are not tried again, and what is said at the end.

from pathlib import Path

from snakemake.jobs import Job
from unmask.failures import table
from unmask.files import refused


def refusals():
    """Logs in which a step refused its input, with their times."""
    return {
        log: log.stat().st_mtime_ns
        for log in Path("logs").rglob("*.log")
        if refused(log)
    }


# Those of earlier starts do not count: a job that is killed before its first word leaves the old log there.
OLD_REFUSALS = refusals() if workflow.is_main_process else {}


def has_refused(log):
    """Whether a job's step refused its input since this snakemake was started."""
    return refused(log) and OLD_REFUSALS.get(log) != log.stat().st_mtime_ns


def attempts_left(job):
    """Further attempts of a job: none if its step refused the input, however many the profile allows.

    Snakemake has one number for all jobs of a rule. A refusal is the same at every attempt, and each would wait in
    the queue, with more memory than the last; killed, preempted and lost jobs still get theirs.
    """
    if any(has_refused(Path(log)) for log in job.log):
        return 0
    return job.rule.restart_times


Job.restart_times = property(attempts_left)


onerror:
    print(
        table(workflow.scheduler.failed, workflow.scheduler.remaining_jobs),
        file=sys.stderr,
    )
