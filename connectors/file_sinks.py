"""Sinks that write files: predictions, and records that could not be used.

In: `Predictions`, or dead letters. Out: lines appended to a file, whose length in bytes is what `flush` returns and
`truncate` takes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from connectors.append_file import AppendFile
from connectors.base import Sink
from connectors.byte_text import shown
from connectors.errors import SinkError
from connectors.prediction_text import as_csv, as_json_lines, csv_header
from connectors.records import DeadLetter, Predictions


def open_predictions(path: Path | str) -> Sink[Predictions]:
    """Return a sink that writes predictions to a .jsonl or .csv file; its `truncate` is still to be called.

    Raises:
        SinkError: the name ends otherwise.
    """
    file = _plain(Path(path), (".jsonl", ".csv"))
    if file.suffix.lower() == ".csv":
        return PredictionFile(file, as_csv, csv_header)
    return PredictionFile(file, as_json_lines, None)


def open_dead_letters(path: Path | str) -> Sink[Sequence[DeadLetter]]:
    """Return a sink that writes dead letters to a .jsonl file; its `truncate` is still to be called.

    Raises:
        SinkError: the name ends otherwise.
    """
    return DeadLetterFile(_plain(Path(path), (".jsonl",)))


class PredictionFile:
    """Writes predictions, see `connectors.base.Sink`.

    Args:
        path: of the file.
        lines: turns events into lines.
        header: turns the first events into what stands before all lines.
    """

    def __init__(
        self, path: Path, lines: Callable[[Predictions], bytes], header: Callable[[Predictions], bytes] | None
    ) -> None:
        self._file, self._lines, self._header = AppendFile(path), lines, header

    def truncate(self, length: int) -> None:
        """Open, and forget everything after the first `length` bytes."""
        self._file.truncate(length)

    def write(self, item: Predictions) -> None:
        """Take the predictions of some events."""
        self._file.make_room()
        if not len(item):
            return
        header = self._header(item) if self._header is not None and not self._file.length else b""
        self._file.write(header + self._lines(item))

    def flush(self) -> int:
        """Make everything taken so far durable; returns the length of the file in bytes."""
        return self._file.flush()

    def close(self) -> None:
        """Flush and close. May be called twice."""
        self._file.close()


class DeadLetterFile:
    """Writes records that could not be used, each as a JSON object on a line of its own.

    `{"position":7,"stage":"decode","reason":"not_json","detail":"...","record":{"text":"..."}}`; bytes that are not
    valid UTF-8 stand as `{"base64":"..."}`. Key, headers, timestamp_ms and origin follow where the record has them.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendFile(path)

    def truncate(self, length: int) -> None:
        """Open, and forget everything after the first `length` bytes."""
        self._file.truncate(length)

    def write(self, item: Sequence[DeadLetter]) -> None:
        """Take some dead letters."""
        self._file.make_room()
        self._file.write(b"".join(map(dead_letter_line, item)))

    def flush(self) -> int:
        """Make everything taken so far durable; returns the length of the file in bytes."""
        return self._file.flush()

    def close(self) -> None:
        """Flush and close. May be called twice."""
        self._file.close()


def dead_letter_line(letter: DeadLetter) -> bytes:
    """Return a dead letter as a JSON object with a line end."""
    record = letter.record
    told: dict[str, object] = {
        "position": letter.offset,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "record": shown(record.value),
    }
    if record.key is not None:
        told["key"] = shown(record.key)
    if record.headers:
        told["headers"] = [[name, shown(value)] for name, value in record.headers]
    if record.timestamp_ms >= 0:
        told["timestamp_ms"] = record.timestamp_ms
    if record.origin is not None:
        origin = record.origin
        told["origin"] = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _plain(path: Path, endings: tuple[str, ...]) -> Path:
    """Check the name of a file that is to be written."""
    if path.suffix.lower() == ".gz":
        raise SinkError(f"{path} would be compressed, but a compressed file cannot be cut back after a crash; drop .gz")
    if path.suffix.lower() not in endings and not path.is_char_device():
        raise SinkError(f"{path} must end in {' or '.join(endings)}")
    return path
