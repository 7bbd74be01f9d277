"""Probe of a workflow step: its use of memory and disk, recorded when it ends.

Python runs this file at startup if its folder is on PYTHONPATH; the library does not know about it. Each process writes
one JSON line: its seconds and peak memory, the bytes it read from weight files, the adapters it opened, and the largest
number of rows of logits in one tensor. UNMASK_REHEARSAL says where to write and what to look for.
"""

import atexit
import builtins
import io
import json
import mmap
import os
import sys
import threading
import time

MODEL_STEPS = ("prepare_model.py", "train_policy.py", "evaluate_policy.py", "diagnose_policy.py")
ASKED = json.loads(os.environ.get("UNMASK_REHEARSAL", "{}"))
REAL_OPEN, REAL_MMAP = builtins.open, mmap.mmap


def script():
    """Return the name of the script that this process runs; empty if it runs none."""
    for word in sys.orig_argv[1:]:
        if not word.startswith("-"):
            return os.path.basename(word)
        if word in ("-m", "-c"):
            break
    return ""


class Watch:
    """Counters of this process."""

    def __init__(self):
        self.began = time.time()
        self.read = 0  # bytes of weights through files
        self.mapped = 0  # bytes of weights through safetensors or a map
        self.opened = self.counted_opens = 0  # weight files opened in total, and through the counted calls
        self.rows = 0  # most rows of logits in one tensor
        self.logits = ""  # the operation that made them
        self.adapters = set()
        self.anonymous = self.resident = 0  # peaks, sampled
        self.before = self.loaded = 0  # resident before the first weight is read, peak at the first use of the model

    def is_weight(self, path):
        """Return True if a path is a weight file of a base model; take note of adapters."""
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).endswith(".safetensors"):
            return False
        path = os.path.realpath(path)
        if os.path.basename(path) == "adapter_model.safetensors":
            self.adapters.add(path)
        return any(path.startswith(folder) for folder in ASKED["weights"])

    def touch(self):
        """Record the memory before the first byte of a weight is read."""
        self.before = self.before or memory("VmRSS")

    def sample(self):
        """Sample the memory of this process forever."""
        while True:
            self.anonymous = max(self.anonymous, memory("RssAnon"))
            self.resident = max(self.resident, memory("VmRSS"))
            time.sleep(0.1)

    def write(self):
        """Append the JSON line of this process."""
        with REAL_OPEN("/proc/self/io", encoding="ascii") as file:
            all_read = int(file.readline().split()[1])
        line = {
            "script": script(),
            "words": sys.orig_argv,
            "pid": os.getpid(),
            "rank": os.environ.get("RANK"),
            "began": self.began,
            "seconds": time.time() - self.began,
            "processor": time.process_time(),
            "read": self.read,
            "mapped": self.mapped,
            "uncounted_opens": self.opened - self.counted_opens,
            "all_read": all_read,
            "logits_rows": self.rows,
            "logits": self.logits,
            "adapters": sorted(self.adapters),
            "peak": memory("VmHWM"),
            "peak_anonymous": max(self.anonymous, memory("RssAnon")),
            "before": self.before,
            "loaded": self.loaded,
        }
        with REAL_OPEN(os.path.join(ASKED["folder"], "processes.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def memory(key):
    """Return the bytes in a line of /proc/self/status."""
    with REAL_OPEN("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(key + ":")), 0)


class CountedReader(io.BufferedReader):
    """Reader of a weight file that counts bytes."""

    def _count(self, size):
        WATCH.touch()
        WATCH.read += size

    def read(self, *size):
        """As in the base class."""
        found = super().read(*size)
        self._count(len(found or b""))
        return found

    def readinto(self, buffer):
        """As in the base class."""
        size = super().readinto(buffer)
        self._count(size or 0)
        return size

    read1, readinto1 = read, readinto


def counted_open(file, mode="r", *more, **settings):
    """Open, with weight files counted."""
    if WATCH.is_weight(file) and not set(mode) & set("wax+"):
        WATCH.counted_opens += 1
        return CountedReader(io.FileIO(file))
    return REAL_OPEN(file, mode, *more, **settings)


class CountedMap(REAL_MMAP):
    """Memory map that counts a mapped weight file in full."""

    def __new__(cls, fileno, length, *more, **settings):
        """As in the base class."""
        # A map knows only a file descriptor; /proc resolves it to the path.
        found = super().__new__(cls, fileno, length, *more, **settings)
        if fileno >= 0 and WATCH.is_weight(os.readlink(f"/proc/self/fd/{fileno}")):
            WATCH.touch()
            WATCH.mapped += len(found)
        return found


def count_tensors():
    """Make safetensors count the tensors that are read from weight files."""
    import safetensors

    # safetensors opens files in Rust, past Python's `open`, so its tensors are counted as they are taken out.
    real = safetensors.safe_open

    class CountedFile:
        def __init__(self, filename, *more, **settings):
            self.inner, self.weights = real(filename, *more, **settings), WATCH.is_weight(filename)

        def __enter__(self):
            self.inner.__enter__()
            return self

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def get_tensor(self, name):
            if self.weights:
                WATCH.touch()
            found = self.inner.get_tensor(name)
            WATCH.mapped += found.nbytes * self.weights
            return found

        def get_slice(self, name):
            found = self.inner.get_slice(name)
            return CountedSlice(found) if self.weights else found

    class CountedSlice:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __getitem__(self, index):
            WATCH.touch()
            found = self.inner[index]
            WATCH.mapped += found.nbytes
            return found

    safetensors.safe_open = CountedFile


def watch_logits():
    """Inspect the result of every torch operation for tensors over the vocabulary; set torch's threads."""
    import torch
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    vocabularies, widths = set(ASKED["vocabularies"]), set(ASKED["widths"])

    class Logits(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            # The first embedding of real tokens marks the end of loading; meta tensors take no memory.
            if not WATCH.loaded and func.name() == "aten::embedding" and result.device.type != "meta":
                WATCH.loaded = memory("VmHWM")
            # A view has no memory beyond the tensor that was inspected already.
            if not func.is_view:
                for tensor in result if isinstance(result, tuple | list) else (result,):
                    if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                        look(func, tensor.shape)
            return result

    def look(func, shape):
        # Widths are given, so that the embedding and the head are not mistaken for logits.
        found = vocabularies.intersection(shape)
        if not found or (len(shape) == 2 and shape[0] in found and shape[1] in widths):  # the weights themselves
            return
        rows = shape.numel() // max(found)
        if rows > WATCH.rows:
            WATCH.rows, WATCH.logits = rows, f"{func.name()} {list(shape)}"

    Logits().__enter__()
    if ASKED["threads"] > 1:  # steps set one thread, for reproducible sums; override it
        torch.set_num_threads(ASKED["threads"])
        torch.set_num_threads = lambda count: None


if ASKED and script() and f"/src/{script()}" in " ".join(sys.orig_argv) and script() != "launch.py":
    WATCH = Watch()
    atexit.register(WATCH.write)
    if script() in MODEL_STEPS:
        builtins.open = io.open = counted_open
        mmap.mmap = CountedMap

        def heard(event, details):
            """Count weight files that are opened, also those that bypass `counted_open`."""
            if event == "open" and WATCH.is_weight(details[0]):
                WATCH.opened += 1

        # An audit hook sees every open, so reads that bypass the counters do not go unnoticed.
        sys.addaudithook(heard)
        threading.Thread(target=WATCH.sample, daemon=True).start()
        count_tensors()
        watch_logits()
