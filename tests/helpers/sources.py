"""Sources of examples for tests: local files, and copies of repositories on the hub."""

import pandas as pd

from unmask.tasks import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STORED = {"validation": 1, "seed": 0, "prompt_file": "", "rewards": "corrected"}


def local(path):
    return {"source": "local", "path": str(path)}


def hub(repository, subset="default", split="train", revision=COMMIT):
    return {"source": "hub", "repository": str(repository), "subset": subset, "split": split, "revision": revision}


def gsm8k(train, test, **more):
    return load("gsm8k", {"train_source": train, "test_source": test} | STORED | more)


def math500(train, test, **more):
    return load("math500", {"train_source": train, "test_source": test} | STORED | more)


def write_parquet(rows, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(file)
