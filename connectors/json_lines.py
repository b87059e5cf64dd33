"""JSON Lines: one JSON object a line.

In: lines of a file. Out: blocks of columns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.byte_streams import GzipFile, PlainFile
from connectors.decode import MOST_CELLS, CellsBlock
from connectors.json_records import json_block
from connectors.lines import LineReader, frame_lines


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
        lines = self._lines.read(most)
        if lines is None:
            return None
        block = json_block(lines.values(), lines, lines.refused)
        while len(block.cells) * len(lines) > MOST_CELLS and len(lines) > 1:
            # so many different names would make columns that hold next to nothing
            fewer = max(1, min(len(lines) // 2, MOST_CELLS // len(block.cells)))
            self._lines.give_back(len(lines) - fewer)
            lines = lines[:fewer]
            block = json_block(lines.values(), lines, lines.refused)
        return block

    @property
    def progress(self) -> float | None:
        """The share of the file read."""
        return self._lines.progress

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()
