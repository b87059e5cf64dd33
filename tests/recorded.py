"""Where recorded streams are, and how each is replayed."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Recorded:
    """A recorded stream and the words that replay it.

    Attributes:
        name: file name without .csv.gz.
        words: flags that say what is predicted.
        metric: the one it is judged by.
        baseline: what has to be beaten.
        bound: what the default has to reach on the whole stream, three thousandths from the mean of three seeds in
            docs/results.md: a change that costs more does not pass unseen. NaN = none.
    """

    name: str
    words: tuple[str, ...]
    metric: str
    baseline: str
    bound: float = math.nan


STREAMS = (
    Recorded("weather_noaa", ("--target", "target"), "accuracy", "majority", 0.815),
    Recorded("elec2", ("--target", "class"), "accuracy", "majority", 0.967),
    Recorded("phishing", ("--target", "is_phishing"), "accuracy", "majority", 0.913),
    Recorded("image_segments", ("--target", "category"), "accuracy", "majority", 0.950),
    Recorded(
        "covtype",
        ("--target", "Cover_Type", "--task", "multiclass", "--limit", "100000"),
        "accuracy",
        "majority",
        0.949,
    ),
    Recorded("ml_yeast", ("--targets-last", "14"), "f1_micro", "majority_labelset", 0.664),
    Recorded("mtr_wq", ("--targets-last", "14", "--task", "multitarget"), "mae", "mean"),
    Recorded("trump_approval", ("--target", "five_thirty_eight"), "mae", "mean", 0.1415),
    Recorded("bikes_toulouse", ("--target", "bikes", "--task", "regression"), "mae", "last_of_category", 0.6412),
)


def data_folder():
    """The folder of recorded streams; skips the test, saying why, where there is none."""
    folder = os.environ.get("STREAMNN_DATA", "")
    if not folder:
        pytest.skip("STREAMNN_DATA is not set: it names the folder of recorded streams")
    if not Path(folder).is_dir():
        pytest.skip(f"STREAMNN_DATA={folder} is not a folder")
    return Path(folder)


def stream(name):
    """The path of a recorded stream; skips the test where it is absent."""
    path = data_folder() / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is absent from the folder that STREAMNN_DATA names")
    return path
