"""JSON Lines: one JSON object a line.

In: lines of a file. Out: blocks of columns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.byte_streams import GzipFile, PlainFile
from connectors.decode import CellsBlock
from connectors.json_records import json_block
from connectors.lines import LineReader, Lines, frame_lines


class JsonLinesReader:
    """Reads a file of JSON Lines block by block.

    Args:
        path: of the file.
        follow: wait for more at the end, and go on with a new file when it is replaced.
        max_record_bytes: longer records are refused.
    """

    fields: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()
    task = ""

    def __init__(self, path: Path, *, follow: bool, max_record_bytes: int) -> None:
        stream = GzipFile(path) if path.suffix.lower() == ".gz" else PlainFile(path, follow=follow)
        self._lines = LineReader(stream, frame_lines, max_record_bytes)

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Go to a mark, or to the beginning."""
        self._lines.open(mark)

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last."""
        return self._lines.mark()

    def read(self, most: int) -> CellsBlock | None:
        """Return the next records, at most `most`; none if none are there now, None at the end."""
        return self._lines.read_fitting(most, _block, lambda block: len(block.cells))

    @property
    def progress(self) -> float | None:
        """The share of the file read."""
        return self._lines.progress

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()


def _block(lines: Lines) -> CellsBlock:
    return json_block(lines.values(), lines, lines.refused)
