"""Choice of the sandbox of this machine: namespaces, or limits only where the settings say so.

The choice is made once per process, by really starting a sandbox of each kind, and is refused where none works: model
output never runs without one.
"""

from __future__ import annotations

import functools
import os
import shutil

from unmask.common.errors import InputError
from unmask.sandbox.backends import Backend, Mode, make
from unmask.sandbox.probe import probe

CHOICE = "UNMASK_SANDBOX"  # environment variable that the workflow sets from runtime.sandbox


def this_backend() -> Backend:
    """Return the backend of this machine and these settings. Raises InputError if there is none."""
    return find_backend(os.environ.get(CHOICE, "namespaces"))


@functools.cache
def find_backend(choice: str) -> Backend:
    """Return the first backend of a choice that works: `namespaces` or `rlimits`. Raises InputError if none does."""
    if choice not in ("namespaces", "rlimits"):
        raise InputError(f"runtime.sandbox ({CHOICE}): {choice!r} is neither namespaces nor rlimits")
    reasons = []
    for mode in modes(choice):
        backend = make(mode)
        reason = refusal(backend)
        if reason is None:
            return backend
        reasons.append(f"{mode}: {reason}")
    raise InputError(f"no sandbox for programs works here ({'; '.join(reasons)}). {_advice(choice)}")


def modes(choice: str) -> tuple[Mode, ...]:
    """Return the backends of a choice in the order in which they are tried."""
    if choice == "rlimits":
        return ("rlimits",)
    # As root, bwrap would run programs as root in the kernel's eyes, which ignores the limit on processes; `unshare`
    # becomes another user.
    if os.getuid() == 0:
        return ("unshare",)
    return ("bwrap", "unshare") if shutil.which("bwrap") else ("unshare",)


def refusal(backend: Backend) -> str | None:
    """Return the reason why a backend does not work here, None if it does, by running programs that try to leave."""
    try:
        return probe(backend)
    except OSError as error:
        return str(error)


def _advice(choice: str) -> str:
    """Say what to change."""
    if choice == "rlimits":
        return (
            "Limits need the kernel's seccomp filters and, as root, processes of their own: run as another user, or "
            "on a machine that allows namespaces"
        )
    return (
        "Programs of a policy run in namespaces of their own: install bubblewrap (`apt-get install bubblewrap`), allow "
        "user namespaces (`sysctl -w user.max_user_namespaces=10000`; on Ubuntu also "
        "`kernel.apparmor_restrict_unprivileged_userns=0`), or start the container with them. Where that is not "
        "possible and what docs/code_tasks.md says about it is acceptable, set runtime.sandbox: rlimits"
    )
