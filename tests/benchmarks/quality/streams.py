"""The streams of the comparison: what each is called, how it is read, and its events as dicts.

Every learner sees the events that `streamnn replay` would decode: the same reader, the same kinds of fields, the same
order. Moments become hour and weekday for learners that know no moments.
"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors import StreamSpec, look, open_source
from pipeline.arguments import flags, parser
from pipeline.config import Config
from pipeline.settings import read_settings
from pipeline.tasks import resolve

CLASSIFICATION = (
    ("elec2", ("--target", "class"), "accuracy"),
    ("phishing", ("--target", "is_phishing"), "accuracy"),
    ("bananas", ("--target", "class", "--task", "binary"), "accuracy"),
    ("image_segments", ("--target", "category"), "accuracy"),
    ("weather_noaa", ("--target", "target"), "accuracy"),
    ("keystroke", ("--target", "class", "--task", "multiclass"), "accuracy"),
    ("luxembourg", ("--target", "target", "--task", "binary"), "accuracy"),
    ("outdoor", ("--target", "class", "--task", "multiclass"), "accuracy"),
    ("rialto", ("--target", "class", "--task", "multiclass", "--limit", "30000"), "accuracy"),
    ("covtype", ("--target", "Cover_Type", "--task", "multiclass", "--limit", "100000"), "accuracy"),
    ("steel_industry", ("--target", "Load_Type", "--categorical", "WeekStatus,Day_of_week"), "accuracy"),
)
REGRESSION = (
    ("abalone", ("--target", "Class_number_of_rings", "--task", "regression", "--categorical", "Sex"), "mae"),
    ("etth1", ("--target", "OT", "--limit", "20000"), "mae"),
    ("bikes_toulouse", ("--target", "bikes", "--task", "regression", "--limit", "20000"), "mae"),
    ("trump_approval", ("--target", "five_thirty_eight"), "mae"),
    (
        "web_traffic",
        ("--target", "sessionsA,sessionsB", "--task", "multitarget", "--limit", "20000"),
        "mae",
    ),
    (
        "steel_industry",
        ("--target", "Usage_kWh", "--categorical", "WeekStatus,Day_of_week,Load_Type", "--limit", "20000"),
        "mae",
    ),
)
MULTILABEL = (
    ("ml_yeast", ("--targets-last", "14"), "f1_micro"),
    ("ml_music_emotions", ("--targets-last", "6"), "f1_micro"),
    ("ml_enron", ("--targets-last", "53"), "f1_micro"),
)
SYNTHETIC = (
    ("sea", "synth:SEA --target target"),
    ("led_drift", "synth:LEDDrift --target target"),
    ("rbf_drift", "synth:RandomRBFDrift --target target --task multiclass"),
    ("hyperplane", "synth:Hyperplane?mag_change=0.01 --target target"),
)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of one target.

    Attributes:
        name: as the tables call it.
        words: what `streamnn replay` is told: the source first.
    """

    name: str
    words: tuple[str, ...]

    def fingerprint(self) -> str:
        """Hash the words and, of a file, its bytes: another file of the same name is another stream."""
        digest = hashlib.sha256(shlex.join((Path(self.words[0]).name, *self.words[1:])).encode())
        if Path(self.words[0]).is_file():
            digest.update(Path(self.words[0]).read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Events:
    """A decoded stream.

    Attributes:
        x: a dict of features for each event; missing ones are left out.
        y: class numbers (0, 1, ... in order of appearance), values, or sets of labels, a 0 or 1 for each.
        classes: how many classes there are (of each label 2); 0 = regression.
        labels: how many labels a set has; 0 = one target.
    """

    x: list[dict[str, float | str]]
    y: list[int] | list[float] | list[tuple[int, ...]]
    classes: int
    labels: int = 0


def recorded(folder: Path, task: str) -> list[Stream]:
    """Return the recorded streams of a task: "classification" or "regression" of one target, or "multilabel"."""
    table = {"classification": CLASSIFICATION, "regression": REGRESSION, "multilabel": MULTILABEL}[task]
    return [
        Stream(name, (str(folder / f"{name}.csv.gz"), *words)) for name, words, _ in table if "multitarget" not in words
    ]


def synthetic() -> list[Stream]:
    """Return generated streams whose concept moves."""
    return [Stream(name, tuple(text.split())) for name, text in SYNTHETIC]


def given(text: str) -> Stream:
    """Return a stream from the words that replay it, such as "mine.csv --target price"."""
    words = tuple(shlex.split(text))
    return Stream(Path(words[0]).name.partition(".")[0].replace(":", "_"), words)


def read(stream: Stream, rows: int, seed: int) -> Events:
    """Decode the first rows of a stream as `streamnn replay` does.

    Args:
        stream: with one target, or with labels.
        rows: events wanted.
        seed: of a generator.

    Raises:
        ValueError: the stream has several targets that are no labels.
    """
    space = parser().parse_args(["replay", *stream.words])
    settings = read_settings(Config, None, overrides=[], environ={}, given=flags(space)).stream
    spec = StreamSpec(settings.source, delimiter=settings.delimiter, seed=seed)
    resolved = resolve(settings, look(spec))
    targets = {target.name for target in resolved.targets}
    if len(targets) != 1 and any(target.kind != "binary" for target in resolved.targets):
        raise ValueError(f"{stream.name} has {len(targets)} targets; the comparison takes one, or labels of 0 and 1")
    target = resolved.targets[0]
    source = open_source(spec, resolved.schema)
    source.open(0, None)
    x: list[dict[str, float | str]] = []
    labels: list[object] = []
    try:
        while len(x) < rows and (chunk := source.poll(rows - len(x))) is not None:
            columns = {name: column for name, column in chunk.columns.items() if name not in targets}
            x += _rows(columns, len(chunk))
            names = [t.name for t in resolved.targets]
            labels += (
                chunk.columns[target.name].tolist()
                if len(names) == 1
                else zip(*(chunk.columns[name].astype(int).tolist() for name in names), strict=True)
            )
    finally:
        source.close()
    if len(targets) > 1:
        return Events(x, labels, 2, len(targets))  # type: ignore[arg-type]
    if target.kind == "regression":
        return Events(x, [float(v) for v in labels], 0)  # type: ignore[arg-type]
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return Events(x, [numbers[label] for label in labels], len(numbers))


def _rows(columns: dict[str, np.ndarray], events: int) -> list[dict[str, float | str]]:
    listed: list[tuple[str, Sequence[float | str | None]]] = []
    for name, column in columns.items():
        if column.dtype.kind == "M":
            hours = column.astype("datetime64[h]").astype(np.int64)
            listed += [(f"{name}.hour", (hours % 24).tolist()), (f"{name}.weekday", (hours // 24 % 7).tolist())]
        else:
            listed.append((name, column.tolist()))
    return [
        {name: values[i] for name, values in listed if values[i] is not None and values[i] == values[i]}
        for i in range(events)
    ]
