"""Pools through `streamnn replay`, every preset and task in every way in which labels can come.

Micro-batches, late labels and few labels: predictions are finite, every labelled event is scored, nothing depends on the
cuts, and a run that is stopped and resumed writes the bytes of one that is not.
"""

import json
from itertools import product

import numpy as np
import pytest

from pipeline.__main__ import main
from tests.pipeline.helpers import read_jsonl

EVENTS, STOP = 300, 143
PRESETS = ("lite", "fast", "best")
TARGETS = {"classes": ["t"], "values": ["t"], "labels": ["p", "q", "r"], "several values": ["v", "w"]}
TASKS = {"classes": "multiclass", "values": "regression", "labels": "multilabel", "several values": "multitarget"}
# events of a batch, events a label is late, share of labels; the few have every pair of two of these
ALL_WAYS = [*product((1, 8, 256), (0, 100), (1.0, 0.1))]
FEW_WAYS = [(1, 0, 1.0), (1, 100, 0.1), (8, 0, 0.1), (8, 100, 1.0), (256, 0, 0.1), (256, 100, 1.0)]


def write(path, task, share):
    """Write a stream with numbers, categories and gaps; returns the labels that are known [K][target], None = hidden."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(EVENTS, 3)).round(3)
    kind = rng.integers(0, 4, EVENTS)
    score = x[:, 0] - 0.7 * x[:, 1] + 0.5 * (kind == 2) + 0.2 * rng.normal(size=EVENTS)
    truth = {
        "classes": [[f"c{int(s > -0.5) + int(s > 0.5)}"] for s in score],
        "values": [[round(10 + 3 * s, 4)] for s in score],
        "labels": [[int(s > 0), int(s > 0.7), int(x2 > 0)] for s, x2 in zip(score, x[:, 2], strict=True)],
        "several values": [[round(10 + 3 * s, 4), round(-5 * s, 4)] for s in score],
    }[task]
    known = rng.random((EVENTS, len(TARGETS[task]))) < share
    rows = [[v if k else None for v, k in zip(*pair, strict=True)] for pair in zip(truth, known, strict=True)]
    gaps = rng.random(x.shape) < 0.1
    lines = [",".join(["a", "b", "c", "kind", *TARGETS[task]])]
    for i, row in enumerate(rows):
        numbers = ["" if gap else str(v) for v, gap in zip(x[i].tolist(), gaps[i], strict=True)]
        lines.append(",".join([*numbers, f"k{kind[i]}", *("" if v is None else str(v) for v in row)]))
    path.write_text("\n".join(lines) + "\n")
    return rows


def replay(path, words, name, *more):
    """Replay a stream; returns the bytes of the predictions and the report."""
    out, report = path.with_name(f"{name}.jsonl"), path.with_name(f"{name}.json")
    assert (
        main(["replay", str(path), *words, "--predictions", str(out), "--report", str(report), "--quiet", *more]) == 0
    )
    return out.read_bytes(), json.loads(report.read_text())


def check(predictions, figures, rows, targets, batch, delay):
    """What was served is finite once a label has come, and what is scored are all labelled events."""
    several, wrong, errors = len(targets) > 1, [], [[] for _ in targets]
    for i, line in enumerate(predictions):
        arrived = i // batch * batch - delay + (1 if delay else 0)  # events whose labels had come
        for t, target in enumerate(targets):
            served = line["prediction"][target] if several else line["prediction"]
            assert (served is not None) == any(row[t] is not None for row in rows[: max(arrived, 0)]), (i, target)
            truth = rows[i][t]
            if isinstance(served, float):
                assert np.isfinite(served)
            if served is not None and "probabilities" in line:
                chances = line["probabilities"][target] if several else line["probabilities"]
                assert all(0 <= p <= 1 for p in chances.values())
                assert list(chances) == ["1"] or abs(sum(chances.values()) - 1) < 1e-6
            if truth is None:
                continue
            if "probabilities" in line:
                wrong.append(served != truth if isinstance(truth, str) else served is None or int(served) != truth)
            elif served is not None:
                errors[t].append(abs(served - truth))
    labelled = sum(any(v is not None for v in row) for row in rows)
    assert figures["learned"] == labelled
    metrics = figures["metrics"]
    if wrong:
        missed = metrics["hamming"] if several else 1 - metrics["accuracy"]
        assert missed == pytest.approx(np.mean(wrong), abs=1e-12)
    else:
        assert metrics["mae"] == pytest.approx(np.mean([np.mean(e) for e in errors if e]), rel=1e-9)


def go(folder, preset, task, ways):
    """Replay a task in each way, whole, and cut, stopped and resumed."""
    for batch, delay, share in ways:
        path = folder / "stream.csv"
        rows = write(path, task, share)
        words = ["--target", ",".join(TARGETS[task]), "--task", TASKS[task], "--set", f"model.preset={preset}"]
        words += ["--mode", f"batch:{batch}"] * (batch > 1) + ["--label-delay", str(delay)] * (delay > 0)
        whole, figures = replay(path, words, "whole")
        lines = read_jsonl(path.with_name("whole.jsonl"))
        assert len(lines) == EVENTS
        check(lines, figures, rows, TARGETS[task], batch, delay)
        checkpoints = folder / f"checkpoints-{batch}-{delay}-{share}"
        stopped = ("--checkpoint", str(checkpoints), "--resume", "--set", "mode.chunk=7")
        replay(path, words, "cut", *stopped, "--limit", str(STOP))
        cut, again = replay(path, words, "cut", *stopped)
        assert cut == whole, (batch, delay, share)
        for key in ("events", "learned", "metrics", "baselines", "drifts"):
            assert again[key] == figures[key], (batch, delay, share, key)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_ways_in_which_labels_come(tmp_path, preset, task):
    """Batches of 1, 8 and 256, labels at once and 100 events late, all of them and a tenth: each beside each other once."""
    go(tmp_path, preset, task, FEW_WAYS)


@pytest.mark.heavy
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_way_in_which_labels_come(tmp_path, preset, task):
    """The same, all of them with all others."""
    go(tmp_path, preset, task, [way for way in ALL_WAYS if way not in FEW_WAYS])
