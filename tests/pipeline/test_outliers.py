"""A few targets that are wildly wrong must not spoil what is said of the others."""

import csv
import gzip
import json
import random

import numpy as np
import pytest

from pipeline.__main__ import main
from tests.recorded import stream

STREAMS = {
    "abalone": ("Class_number_of_rings", ("--task", "regression", "--categorical", "Sex")),
    "etth1": ("OT", ("--limit", "20000")),
    "bikes_toulouse": ("bikes", ("--task", "regression", "--limit", "20000")),
    "trump_approval": ("five_thirty_eight", ()),
    "steel_industry": ("Usage_kWh", ("--limit", "20000", "--categorical", "WeekStatus,Day_of_week")),
}


def served(path, target, words, folder):
    """Replay a file; returns the predictions [K], NaN where there is none."""
    out = folder / f"{path.name}.jsonl"
    assert main(["replay", str(path), "--target", target, *words, "--predictions", str(out), "--quiet"]) == 0
    lines = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
    return np.array([np.nan if line is None else line for line in lines], dtype=np.float64)


def check(name, tmp_path, rows, most):
    """Compare the errors on ordinary events with and without a thousandth of the targets a thousand times as large."""
    target, words = STREAMS[name]
    with gzip.open(stream(name), "rt") as file:
        table = list(csv.DictReader(file))[:rows]
    chosen = set(random.Random(7).sample(range(len(table)), max(len(table) // 1000, 1)))
    spoilt = [
        {**row, target: str(float(row[target] or 0) * 1000)} if k in chosen else row for k, row in enumerate(table)
    ]
    errors = []
    for which, listed in (("clean", table), ("spoilt", spoilt)):
        path = tmp_path / f"{which}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(listed)
        truth = np.array([float(row[target] or "nan") for row in table])
        error = np.abs(served(path, target, words, tmp_path) - truth)
        others = np.array([k not in chosen for k in range(len(table))])
        errors.append(np.nanmean(error[others]))
    assert errors[1] <= most * errors[0], errors


@pytest.mark.heavy
@pytest.mark.parametrize("name", STREAMS)
def test_a_thousandth_of_the_targets_a_thousand_times_as_large(name, tmp_path):
    """The mean absolute error on the others grows by less than 15 %."""
    check(name, tmp_path, 20_000, 1.15)


def test_one_target_a_thousand_times_as_large(tmp_path):
    """The same for the beginning of one stream."""
    check("trump_approval", tmp_path, 1_000, 1.15)
