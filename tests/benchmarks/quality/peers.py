"""Learners of libraries that run in environments of their own, through a worker process.

Axes: N events, F inputs.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.quality.environments import run_worker

LEARNERS = {
    "multiflow": ("naive_bayes", "perceptron", "knn", "hoeffding_tree", "hat", "arf"),
    "deep_river": ("logistic", "mlp", "lstm"),
    "capymoa": ("naive_bayes", "knn", "hoeffding_tree", "hat", "arf", "srp"),
}
CLASSIFIERS = {f"{library}_{name}": (library, name) for library, names in LEARNERS.items() for name in names}

LABELERS = {
    f"multiflow_{name}": ("multiflow", name) for name in ("relevance_perceptron", "chain_perceptron", "powerset_tree")
}
KNOWN = {**CLASSIFIERS, **LABELERS}


def matrix(x: list[dict[str, float | str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return raw and scaled inputs, [N, F] float64 each.

    Numbers stay as they are, each value of a name is a column of 0 and 1, and what is missing is 0. Scaled: (x - mean) / sd
    over the values up to and with the event's own, 0 where sd is 0 or the value is missing.
    """
    columns: dict[tuple[str, str], int] = {}
    for event in x:
        for name, value in event.items():
            columns.setdefault((name, value if isinstance(value, str) else ""), len(columns))
    raw = np.zeros((len(x), len(columns)))
    known = np.zeros(raw.shape, dtype=bool)
    named = np.array([bool(value) for _, value in columns])
    for i, event in enumerate(x):
        for name, value in event.items():
            at = columns[name, value if isinstance(value, str) else ""]
            raw[i, at] = 1.0 if isinstance(value, str) else value
            known[i, at] = True
    known[:, named] = True
    count = np.maximum(known.cumsum(axis=0), 1)
    shift = raw - raw[:1]  # the spread of large values would drown in rounding
    shift[~known] = 0.0
    mean = shift.cumsum(axis=0) / count
    spread = np.sqrt(np.maximum((shift**2).cumsum(axis=0) / count - mean**2, 0.0))
    scaled = np.divide(shift - mean, spread, out=np.zeros_like(raw), where=(spread > 1e-12) & known)
    scaled[:, named] = raw[:, named]
    return raw, scaled


def run_peer(
    learner: str, x: list[dict[str, float | str]], y: np.ndarray, classes: int, seed: int
) -> dict[str, np.ndarray]:
    """Run a learner over a stream in its environment; returns the worker's arrays, see `workers/exchange.py`."""
    library, name = KNOWN[learner]
    raw, scaled = matrix(x)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        arrays: dict[str, Any] = {"raw": raw, "scaled": scaled, "y": y, "classes": classes}
        np.savez(source, **arrays)
        run_worker(library, name, str(seed), str(source), str(target))
        with np.load(target) as out:
            return dict(out)
