"""Estimators beside `streamnn replay`: asked before each event is learned, they predict the same, bit for bit."""

import csv
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config import Config
from streamnn import Classifier, MultiLabelClassifier, MultiTargetRegressor, Regressor
from streamnn import estimators as face

EVENTS = 1100  # two decisions on the learning rate, the second with a drift in sight
HEADER = ("z", "kind", "b", "at", "a")


def write_stream(path, events=EVENTS, seed=0):
    """A stream whose names are not in order, with gaps, late categories and classes, and a drift: half are turned round."""
    rng = np.random.default_rng(seed)
    began = dt.datetime(2026, 1, 1)
    lines = [",".join([*HEADER, "class", "value", "on0", "on1"])]
    for i in range(events):
        x = rng.normal(size=3)
        kind = rng.integers(2 + i // 100)  # 14 categories in the end
        score = (x[0] - x[1] + 0.5 * (kind % 2)) * (1 if i < 600 else rng.choice([-1, 1])) + 0.1 * rng.normal()
        label = int(score > 0) + int(i > 250 and score > 1)
        value = 40 + 5 * score if i % 11 != 5 else ""
        fields = [
            f"{x[0]:.4f}",
            f"k{kind}",
            f"{x[1]:.4f}",
            (began + dt.timedelta(minutes=17 * i)).isoformat(),
            f"{x[2]:.4f}",
        ]
        if i % 7 == 3:
            fields[i % 5] = ""
        on = [int(x[0] > 0), int(score > 0)] if i % 13 != 5 else ["", ""]
        lines.append(",".join(map(str, [*fields, f"c{label}" if i % 9 != 5 else "", value, *on])))
    Path(path).write_text("\n".join(lines) + "\n")


def events(path):
    """The stream as a Python user has it: (features, text of all fields)."""
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            x = {name: float(row[name]) if row[name] else None for name in ("z", "b", "a")}
            x["kind"] = row["kind"] or None
            x["at"] = dt.datetime.fromisoformat(row["at"]) if row["at"] else None
            yield {name: x[name] for name in HEADER}, row


def number(text):
    """A field as a number, or None."""
    return float(text) if text else None


CASES = {
    "classes": (Classifier, ["--target", "class", "--task", "multiclass"], ["value", "on0", "on1"]),
    "values": (Regressor, ["--target", "value"], ["class", "on0", "on1"]),
    "labels": (MultiLabelClassifier, ["--target", "on0,on1"], ["class", "value"]),
    "targets": (MultiTargetRegressor, ["--target", "value,a", "--task", "multitarget"], ["class", "on0", "on1"]),
}


def replayed(path, case, preset, tmp_path, *words):
    """What `streamnn replay` predicts: probabilities, or values, an event each; None where nothing was."""
    out = tmp_path / "predictions.jsonl"
    _, task, ignored = CASES[case]
    ignore = f"stream.ignore={json.dumps(ignored)}"
    said = ["--set", f"model.preset={preset}", "--set", ignore, "--seed", "3", "--predictions", str(out), "--quiet"]
    assert main(["replay", str(path), *task, *said, *words]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return [line["prediction" if case in ("values", "targets") else "probabilities"] for line in lines]


def asked(path, case, preset):
    """What an estimator predicts when it is asked before each event."""
    model = CASES[case][0](preset, seed=3)
    found = []
    for x, row in events(path):
        if case == "classes":
            found.append(model.predict_proba_one(x))
            model.learn_one(x, row["class"] or None)
        elif case == "values":
            found.append(model.predict_one(x))
            model.learn_one(x, number(row["value"]))
        elif case == "labels":
            found.append(model.predict_proba_one(x))
            model.learn_one(x, {name: number(row[name]) for name in ("on0", "on1")})
        else:
            del x["a"]
            found.append(model.predict_one(x))
            model.learn_one(x, {name: number(row[name]) for name in ("value", "a")})
    return found


def labelled(path, case):
    """Tell of each event whether it has a label."""
    names = {"classes": ["class"], "values": ["value"], "labels": ["on0", "on1"], "targets": ["value", "a"]}[case]
    return [any(row[name] for name in names) for _, row in events(path)]


def flat(prediction, case):
    """One prediction as {name: number}, without what is not known."""
    if prediction is None or prediction == {}:
        return {}
    if case == "values":
        return {"": prediction}
    if case == "labels":
        prediction = {name: p["1"] if isinstance(p, dict) else p for name, p in prediction.items()}
    return {name: p for name, p in prediction.items() if p is not None}


@pytest.mark.parametrize(
    ("case", "preset"),
    [
        ("classes", "best"),
        ("classes", "single"),
        ("values", "best"),
        ("values", "single"),
        ("labels", "fast"),
        ("targets", "lite"),
    ],
)
def test_an_estimator_predicts_what_a_replay_predicts(case, preset, tmp_path):
    """Classes, values, labels and several targets, with gaps, categories, moments, late classes and drift: the same bits."""
    path = tmp_path / "stream.csv"
    write_stream(path)
    want = [flat(p, case) for p in replayed(path, case, preset, tmp_path)]
    got = [flat(p, case) for p in asked(path, case, preset)]
    assert len(want) == len(got) == EVENTS
    first = next(i for i, p in enumerate(want) if p)
    assert first < 5
    if preset == "single":
        # compiled code for events without a label may round otherwise in the last bit of its float32
        for i, known in enumerate(labelled(path, case)):
            if not known:
                assert got[i] == pytest.approx(want[i], rel=1e-5)
                got[i] = want[i]
    assert got[first:] == want[first:]


def test_constants_are_those_of_a_configuration():
    """What watches the losses and sets the rate is what a configuration sets by default."""
    config = Config()
    assert (config.drift.detector, config.rate.control, config.rate.every) == (face.DETECTOR, face.CONTROL, face.EVERY)
    assert Classifier().rate == config.optimizer.rate
