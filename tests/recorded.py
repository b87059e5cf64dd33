"""Where recorded streams are, and how each is replayed."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Recorded:
    """A recorded stream and the words that replay it.

    Attributes:
        name: file name, where it is a .csv.gz without that.
        words: flags that say what is predicted.
        metric: the one it is judged by.
        baseline: what has to be beaten.
    """

    name: str
    words: tuple[str, ...]
    metric: str
    baseline: str


STREAMS = (
    Recorded("weather_noaa", ("--target", "target"), "accuracy", "majority"),
    Recorded("elec2", ("--target", "class"), "accuracy", "majority"),
    Recorded("phishing", ("--target", "is_phishing"), "accuracy", "majority"),
    Recorded("image_segments", ("--target", "category"), "accuracy", "majority"),
    Recorded(
        "covtype",
        ("--target", "Cover_Type", "--task", "multiclass", "--limit", "100000"),
        "accuracy",
        "majority",
    ),
    Recorded("ml_yeast", ("--targets-last", "14"), "f1_micro", "majority_labelset"),
    Recorded("mtr_wq", ("--targets-last", "14", "--task", "multitarget"), "mae", "mean"),
    Recorded("trump_approval", ("--target", "five_thirty_eight"), "mae", "mean"),
    Recorded("bikes_toulouse", ("--target", "bikes", "--task", "regression"), "mae", "last_of_category"),
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
    """The path of a recorded stream, a .csv.gz if the name says nothing else; skips the test where it is absent."""
    path = data_folder() / (name if "." in name else f"{name}.csv.gz")
    if not path.exists():
        pytest.skip(f"{path} is absent from the folder that STREAMNN_DATA names")
    return path
