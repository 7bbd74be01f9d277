"""Ways to start an isolated process: `bwrap`, `unshare`, or with limits only."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from unmask.sandbox.limits import Limits

Mode = Literal["bwrap", "unshare", "rlimits"]
INSIDE = Path(__file__).with_name("inside")
# Besides the interpreter's own library: shared libraries that its modules are linked to.
SHARED = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")


@dataclass(frozen=True)
class Backend:
    """How to start a sandboxed process."""

    name: Mode
    interpreter: str
    library: str  # the interpreter's folder of libraries

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment of the process: nothing of ours, and a fixed order of sets."""
        return {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}

    def command(self, limits: Limits, role: str) -> list[str]:
        """Return the words of the command."""
        sources = [self.library, *SHARED]
        settings = json.dumps({"mode": self.name, "role": role, "limits": asdict(limits), "sources": sources})
        # Without the packages that are installed, those of the user, and the current folder.
        python = [self.interpreter, "-S", "-s", "-P", str(INSIDE), settings]
        if self.name != "bwrap":
            return python
        # By its full path: the environment of the process has no PATH.
        bwrap = shutil.which("bwrap") or "bwrap"
        words = [bwrap, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        for source in (self.interpreter, *sources, str(INSIDE)):
            if os.path.islink(source):
                words += ["--symlink", os.readlink(source), source]
            elif os.path.exists(source):
                words += ["--ro-bind", source, source]
        words += ["--dev-bind", "/dev/null", "/dev/null", "--dir", "/box", "--remount-ro", "/", "--chdir", "/box"]
        return [*words, *python]


def make(mode: Mode, interpreter: str | None = None, library: str | None = None) -> Backend:
    """Return a backend of a kind, with this interpreter unless another one is given."""
    # The real file: a link in a virtual environment would point to a place that is not visible inside.
    found = interpreter or os.path.realpath(sys.executable)
    return Backend(mode, found, library or os.path.join(sys.base_prefix, "lib"))
