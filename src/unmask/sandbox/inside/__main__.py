"""Entry of a sandboxed process: isolate it, report, then serve. Run as `python FOLDER SETTINGS`, SETTINGS being JSON.

Pipes arrive as standard input and output. They are moved to other numbers before anything runs, and what a program
prints is discarded.
"""

import json
import os
import sys

import candidate
import checker
import frames
import isolation


def main() -> None:
    """Exit with 1, and one message that says why, if the process cannot be isolated."""
    settings = json.loads(sys.argv[1])
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)

    # Programs import the standard library only, and this folder's files are none of it.
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    try:
        isolation.isolate(settings["mode"], settings["sources"], settings["limits"])
    except OSError as error:
        frames.write(target, {"ready": False, "error": str(error)})
        sys.exit(1)
    frames.write(target, {"ready": True})
    if settings["role"] == "checker":
        checker.serve(source, target)
    else:
        candidate.serve(source, target, settings["limits"]["answer_bytes"])


if __name__ == "__main__":
    main()
