"""Predictions as lines of text, column by column.

In: `Predictions` of K events. Out: the lines of a JSON Lines or CSV file. The same predictions give the same bytes,
however they are cut into blocks: floats are written with the fewest digits that read back as the same number, and a
class that did not exist for an event is left out of its probabilities.

Axes: K events, C classes of one target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from connectors.records import Column, FloatArray, Predictions

_NULL = "null"


@dataclass(frozen=True, slots=True)
class _Texts:
    """K texts that are written only at the end, each value once.

    Attributes:
        template: what all have in common, with %s where each has its own.
        columns: for each %s the K texts.
    """

    template: str
    columns: tuple[Sequence[str], ...]

    def written(self, end: str = "") -> list[str]:
        """Return the K texts, with something behind each."""
        template = self.template + end
        return [template % row for row in zip(*self.columns, strict=True)]


def as_json_lines(predictions: Predictions) -> bytes:
    """Write each event as a JSON object on a line of its own.

    `{"position":12,"prediction":"a","probabilities":{"a":0.9,"b":0.1},"label":"b"}`; with several targets prediction,
    probabilities and label are objects with a member for each target. What was not served or is not known is null;
    "probabilities" is there only for targets that have classes.
    """
    targets = predictions.targets
    classed = [t for t in targets if t in predictions.probabilities]
    decisions = [_json_cells(predictions.decisions[t]) for t in targets]
    likelihoods = [_likelihoods(*predictions.probabilities[t]) for t in classed]
    labels = [_json_cells(predictions.labels[t]) for t in targets]
    columns = {"position": _of(_tokens(predictions.offsets))}
    if len(targets) == 1:
        columns["prediction"], columns["label"] = decisions[0], labels[0]
        if classed:
            columns["probabilities"] = likelihoods[0]
    else:
        columns["prediction"], columns["label"] = _objects(targets, decisions), _objects(targets, labels)
        if classed:
            columns["probabilities"] = _objects(classed, likelihoods)
    names = [name for name in ("position", "prediction", "probabilities", "label") if name in columns]
    return "".join(_objects(names, [columns[name] for name in names]).written("\n")).encode()


def as_json_values(predictions: Predictions) -> list[bytes]:
    """Write each event as a JSON object of its own, K of them.

    `{"event":12,"targets":{"class":{"prediction":"a","label":"b","probabilities":{"a":0.9,"b":0.1}}}}`, with the event's
    number; what was not served or is not known is null, and "probabilities" is there only for targets that have classes.
    """
    described = []
    for target in predictions.targets:
        columns = {
            "prediction": _json_cells(predictions.decisions[target]),
            "label": _json_cells(predictions.labels[target]),
        }
        if target in predictions.probabilities:
            columns["probabilities"] = _likelihoods(*predictions.probabilities[target], nothing="{}")
        described.append(_objects(list(columns), list(columns.values())))
    whole = [_of(_tokens(predictions.numbers)), _objects(predictions.targets, described)]
    return [text.encode() for text in _objects(["event", "targets"], whole).written()]


def as_csv(predictions: Predictions) -> bytes:
    """Write each event as a line: position, prediction, probabilities (a JSON object), label.

    With several targets there are these columns for each, see `csv_header`. Nothing stands where nothing was served or
    is known.
    """
    columns = [_tokens(predictions.offsets)]
    for target in predictions.targets:
        columns.append(_csv_cells(predictions.decisions[target]))
        if target in predictions.probabilities:
            likelihoods = _likelihoods(*predictions.probabilities[target], nothing="").written()
            columns.append([_quoted(text) for text in likelihoods])
        columns.append(_csv_cells(predictions.labels[target]))
    return "".join([",".join(row) + "\n" for row in zip(*columns, strict=True)]).encode()


def csv_header(predictions: Predictions) -> bytes:
    """Return the first line of a CSV file: with several targets the names are `prediction_TARGET` and so on."""
    names = ["position"]
    for target in predictions.targets:
        behind = f"_{target}" if len(predictions.targets) > 1 else ""
        names.append("prediction" + behind)
        if target in predictions.probabilities:
            names.append("probabilities" + behind)
        names.append("label" + behind)
    return (",".join(map(_quoted, names)) + "\n").encode()


def _of(texts: Sequence[str]) -> _Texts:
    return _Texts("%s", (texts,))


def _objects(names: Sequence[str], columns: Sequence[_Texts]) -> _Texts:
    """Return K JSON objects with the given members, whose values are JSON already."""
    members = [
        f"{_json(name)}:".replace("%", "%%") + column.template for name, column in zip(names, columns, strict=True)
    ]
    return _Texts("{" + ",".join(members) + "}", tuple(texts for column in columns for texts in column.columns))


def _likelihoods(classes: Sequence[object], probabilities: FloatArray, *, nothing: str = _NULL) -> _Texts:
    """Return K JSON objects {class: probability} without the classes that are NaN.

    Args:
        classes: C labels.
        probabilities: [K, C].
        nothing: the text where all are NaN.
    """
    names = [label if isinstance(label, str) else _json(label) for label in classes]
    absent = np.isnan(probabilities)
    if (absent == absent[:1]).all():  # most blocks
        there = np.flatnonzero(~absent[:1].any(axis=0))
        if not len(there):
            return _of([nothing] * len(absent))
        return _likelihoods_of([names[c] for c in there], probabilities[:, there])
    texts = np.full(len(probabilities), nothing, dtype=object)
    # classes appear late and all at once, so there are few patterns
    patterns, which = np.unique(absent, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if not pattern.all():
            rows = np.flatnonzero(which.reshape(-1) == number)
            there = np.flatnonzero(~pattern)
            texts[rows] = _likelihoods_of([names[c] for c in there], probabilities[np.ix_(rows, there)]).written()
    return _of(texts.tolist())


def _likelihoods_of(names: Sequence[str], probabilities: FloatArray) -> _Texts:
    tokens = _tokens(np.ascontiguousarray(probabilities).reshape(-1))
    return _objects(names, [_of(tokens[c :: len(names)]) for c in range(len(names))])


def _json_cells(column: Column) -> _Texts:
    """Return K labels or values as JSON."""
    if column.dtype != object:
        return _of(_tokens(column))
    return _of(_each(column, _json))


def _csv_cells(column: Column) -> list[str]:
    """Return K labels or values as CSV fields."""
    if column.dtype != object:
        return ["" if token == _NULL else token for token in _tokens(column)]
    return _each(column, lambda label: _quoted(label) if isinstance(label, str) else _csv(label))


def _each(column: Column, write: Callable[[object], str]) -> list[str]:
    """Write labels, equal ones only once."""
    labels = column.tolist()
    if len({*map(type, labels)} - {type(None)}) > 1:
        return [write(label) for label in labels]  # True and 1 are equal, but are not written alike
    texts = {label: write(label) for label in dict.fromkeys(labels)}
    return list(map(texts.__getitem__, labels))


def _tokens(column: Column) -> list[str]:
    """Return K numbers as text, NaN as null."""
    if not len(column):
        return []
    return number_text(column).decode().split(",")


def number_text(column: Column) -> bytes:
    """Return K numbers as text with commas between them, NaN as null."""
    return orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def _json(label: object) -> str:
    return orjson.dumps(label, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _csv(label: object) -> str:
    return "" if label is None else _json(label)


def _quoted(text: str) -> str:
    """Return a text as a CSV field."""
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
