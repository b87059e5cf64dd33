"""The streams of the comparison: what each is called, how it is read, and its events as dicts.

Every learner sees the events that `streamnn replay` would decode: the same reader, the same kinds of fields, the same
order. Moments become hour and weekday for learners that know no moments.
"""

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from connectors import StreamSpec, look, open_source
from pipeline.arguments import flags, parser
from pipeline.config import Config
from pipeline.settings import SettingsError, read_settings
from pipeline.tasks import Resolved, resolve

Task = Literal["classification", "regression", "multilabel"]

# the concept changes at once, gradually, or all the time
SYNTHETIC = (
    ("sea_abrupt", "SEA?noise=0.1 -> SEA?variant=2&noise=0.1 @ 2000 -> SEA?variant=1&noise=0.1 @ 4000"),
    ("sea_gradual", "SEA?noise=0.1 -> SEA?variant=2&noise=0.1 @ 2000 ~ 1000 -> SEA?variant=1&noise=0.1 @ 4000 ~ 1000"),
    (
        "agrawal_abrupt",
        "Agrawal -> Agrawal?classification_function=3 @ 2000 -> Agrawal?classification_function=6 @ 4000",
    ),
    (
        "agrawal_gradual",
        "Agrawal -> Agrawal?classification_function=3 @ 2000 ~ 1000 -> Agrawal?classification_function=6 @ 4000 ~ 1000",
    ),
    (
        "led_abrupt",
        "LEDDrift?noise_percentage=0.1&irrelevant_features=True"
        " -> LEDDrift?noise_percentage=0.1&irrelevant_features=True&n_drift_features=3 @ 2000"
        " -> LEDDrift?noise_percentage=0.1&irrelevant_features=True&n_drift_features=7 @ 4000",
    ),
    ("sine_abrupt", "Sine -> Sine?classification_function=1 @ 2000 -> Sine?classification_function=2 @ 4000"),
    ("rbf_abrupt", "RandomRBF?n_classes=4 -> RandomRBF?n_classes=4 @ 2000 -> RandomRBF?n_classes=4 @ 4000"),
    ("rbf_incremental", "RandomRBFDrift?n_classes=4&change_speed=0.001"),
    ("hyperplane_incremental", "Hyperplane?mag_change=0.01"),
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
        y: class numbers (0, 1, ... in order of appearance), values, or sets of labels: for each 0, 1 or None = unknown.
        classes: how many classes there are (of each label 2); 0 = regression.
        labels: how many labels a set has; 0 = one target.
    """

    x: list[dict[str, float | str]]
    y: list[Any]
    classes: int
    labels: int = 0


def synthetic() -> list[Stream]:
    """Return generated streams whose concept moves."""
    return [Stream(name, (f"synth:{text}", "--target", "target", "--task", "multiclass")) for name, text in SYNTHETIC]


def given(text: str) -> Stream:
    """Return a stream from the words that replay it, such as "mine.csv --target price".

    Raises:
        SettingsError: there are no words, or quotes do not match.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise SettingsError(f"STREAM is {text!r}: {error}") from error
    if not words or words[0].startswith("-"):
        raise SettingsError(f'STREAM is {text!r}, expected a stream and its flags, such as "mine.csv --target price"')
    name = words[0] if ":" in words[0] else Path(words[0]).name.partition(".")[0]
    return Stream(re.sub(r"[^\w.=-]+", "_", name), words)


def task_of(stream: Stream) -> Task:
    """Say what kind of comparison a stream belongs to.

    Raises:
        SettingsError: it has several targets that are no labels, or cannot be replayed.
    """
    return _task(_looked(stream, 0)[0], stream.name)


def read(stream: Stream, rows: int, seed: int) -> Events:
    """Decode the first rows of a stream as `streamnn replay` does.

    Args:
        stream: with one target, or with labels.
        rows: events wanted; those without a label are read and left out.
        seed: of a generator.

    Raises:
        SettingsError: the stream has several targets that are no labels, or cannot be replayed.
    """
    resolved, spec = _looked(stream, seed)
    task = _task(resolved, stream.name)
    names = [target.name for target in resolved.targets]
    source = open_source(spec, resolved.schema)
    source.open(0, None)
    x: list[dict[str, float | str]] = []
    labels: list[tuple[Any, ...]] = []  # a value for each target
    try:
        while len(x) < rows and (chunk := source.poll(rows - len(x))) is not None:
            columns = {name: column for name, column in chunk.columns.items() if name not in names}
            x += _rows(columns, len(chunk))
            labels += zip(*(chunk.columns[name].tolist() for name in names), strict=True)
    finally:
        source.close()
    labels = [tuple(None if v is None or v != v else v for v in row) for row in labels]
    known = [i for i, row in enumerate(labels) if set(row) != {None}]
    x, labels = [x[i] for i in known], [labels[i] for i in known]
    if task == "multilabel":
        return Events(x, [tuple(None if v is None else int(v) for v in row) for row in labels], 2, len(names))
    first = [row[0] for row in labels]
    if task == "regression":
        return Events(x, [float(v) for v in first], 0)
    numbers = {label: i for i, label in enumerate(dict.fromkeys(first))}
    return Events(x, [numbers[label] for label in first], len(numbers))


def _task(resolved: Resolved, name: str) -> Task:
    kinds = {target.kind for target in resolved.targets}
    if len(resolved.targets) > 1 and kinds != {"binary"}:
        raise SettingsError(
            f"{name} has {len(resolved.targets)} targets; the comparison takes one, or labels of 0 and 1"
        )
    if len(resolved.targets) > 1:
        return "multilabel"
    return "regression" if kinds == {"regression"} else "classification"


def _looked(stream: Stream, seed: int) -> tuple[Resolved, StreamSpec]:
    try:
        space = parser().parse_args(["replay", *stream.words])
    except SystemExit as error:  # argparse has said on stderr what is wrong
        raise SettingsError(f"{shlex.join(stream.words)!r} cannot be replayed") from error
    found = flags(space)
    other = [value.where for name, value in found.items() if not name.startswith("stream.")]
    other += [f"--set {text}" for text in space.set if not text.startswith("stream.")]
    other += ["--config"] if space.config is not None else []
    if other or space.compare is not None or space.fail_if:
        raise SettingsError(
            f"{shlex.join(stream.words)!r}: {', '.join(other) or '--compare'} would reach only our learners; give flags"
            " that say what is read and predicted, such as --target, --task, --categorical, --ignore or --set stream.KEY=VALUE"
        )
    settings = read_settings(Config, None, overrides=space.set, environ={}, given=found).stream
    spec = StreamSpec(settings.source, delimiter=settings.delimiter, seed=seed)
    return resolve(settings, look(spec)), spec


def _rows(columns: dict[str, Any], events: int) -> list[dict[str, float | str]]:
    listed: list[tuple[str, Sequence[float | str | None]]] = []
    for name, column in columns.items():
        if column.dtype.kind == "M":
            hours = column.astype("datetime64[h]").astype(np.int64)
            listed += [(f"{name}.hour", (hours % 24).tolist()), (f"{name}.weekday", (hours // 24 % 7).tolist())]
        else:
            listed.append((name, column.tolist()))
    return [
        {name: value for name, values in listed if (value := values[i]) is not None and value == value}
        for i in range(events)
    ]
