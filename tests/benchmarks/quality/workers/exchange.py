"""A worker's side of a run in an environment of its own: arrays in, what was served out.

A worker is started as a script by a Python that may know neither this project nor its NumPy, so that this file needs
nothing but NumPy. Axes: N events, F inputs, T targets.

`WORKER.py --versions` prints the versions of what computes as JSON. `WORKER.py LEARNER SEED IN.npz OUT.npz` runs a learner.
In:
    raw: [N, F] inputs, names as one-hot columns, missing ones 0.
    scaled: [N, F] the same, standardised by running statistics.
    y: [N] class numbers, or [N, T] labels of 0 and 1 or values.
    classes: how many classes there are; 0 = y are values.
Out:
    served: like y; NaN where nothing was served (the first event).
    chances: [N] probability given to the true class; NaN where none was given.
    seconds: wall time of the loop.
    memory_mib: how far the process's largest size grew in it.

The largest size is read from /proc: what getrusage says of a process that was just started is its parent's.
"""

import json
import platform
import sys
import time
from pathlib import Path

import numpy as np


def work(make, versions):
    """Run what the command line asks for.

    Args:
        make: (learner, classes, seed, raw, scaled, y) -> (model, x), x the one of both inputs that suits the learner; a
            model has `predict(x) -> (served, probabilities or None)` for one row, and `learn(x, y)`.
        versions: library -> version.
    """
    if sys.argv[1:] == ["--versions"]:
        print(json.dumps({"python": platform.python_version(), "numpy": np.__version__, **versions}))
        return
    learner, seed, source, target = sys.argv[1:]
    data = np.load(source)
    y = data["y"]
    model, x = make(learner, int(data["classes"]), int(seed), data["raw"], data["scaled"], y)
    served, chances = np.full(y.shape, np.nan), np.full(len(y), np.nan)
    before, began = _largest_kib(), time.perf_counter()
    for i in range(len(y)):
        if i:
            served[i], probabilities = model.predict(x[i])
            if probabilities is not None and y.ndim == 1:
                chances[i] = probabilities[int(y[i])] if y[i] < len(probabilities) else 0.0
        model.learn(x[i], y[i])
    seconds = time.perf_counter() - began
    memory_mib = (_largest_kib() - before) / 1024
    np.savez(target, served=served, chances=chances, seconds=seconds, memory_mib=memory_mib)


def _largest_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
