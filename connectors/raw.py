"""Records as they are: for whoever wants what a source reads and not what it means."""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.records import Chunk, IntArray, Record


class RawCodec:
    """Hands records on without looking into them, see `connectors.base.Codec`."""

    def decode(self, records: Sequence[Record], offsets: IntArray, *, start: int, stop: int) -> Chunk:
        """Return the records as events without fields."""
        return Chunk({}, offsets, records, (), start, stop)

    def state(self, offset: int) -> dict[str, Any]:
        """Return nothing."""
        del offset
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take nothing back."""
