# Handling of failed jobs: no retries after refused input, and a table of failures at the end.

from pathlib import Path

from snakemake.jobs import Job
from unmask.planning.failures import table
from unmask.common.errors import refused


def refusals():
    """Return the logs in which a step refused its input, with their modification times."""
    return {
        log: log.stat().st_mtime_ns
        for log in Path("logs").rglob("*.log")
        if refused(log)
    }


# Refusals of earlier starts do not count: a job killed before it writes anything leaves the old log in place.
OLD_REFUSALS = refusals() if workflow.is_main_process else {}


def has_refused(log):
    """Return True if a job's step has refused its input since this snakemake was started."""
    return refused(log) and OLD_REFUSALS.get(log) != log.stat().st_mtime_ns


def attempts_left(job):
    """Return the number of retries of a job: 0 if its step refused the input, else what the profile allows.

    Snakemake has one number for all jobs of a rule. Refused input fails the same way at every attempt, and each attempt
    would queue again with more memory; killed, preempted and lost jobs keep their retries.
    """
    if any(has_refused(Path(log)) for log in job.log):
        return 0
    return job.rule.restart_times


# Replaces Snakemake's property, which returns the rule's number for every job.
Job.restart_times = property(attempts_left)


onerror:
    print(
        table(workflow.scheduler.failed, workflow.scheduler.remaining_jobs),
        file=sys.stderr,
    )
