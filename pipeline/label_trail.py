"""Which records of labels came between the events, kept until predictions have told it.

In: the labels of each chunk. Out: with the predictions of a block, the records of labels that were handled before each
event. With that the order in which a run handled the records of both topics can be found again (`connectors.kafka.handled`):
what has a number and is told by nothing else is a label.
"""

from collections import deque
from typing import Any

import numpy as np

from connectors import LabelRun, Labels
from streamnn.operations import IntArray

MOST_TOLD = 128  # runs with one prediction, some 3 kB; the others go with those that follow
MOST_KEPT = 100_000  # runs; 3 MB of a checkpoint


class LabelTrail:
    """Records of labels that no prediction has told of, oldest first.

    Labels come in runs where they lie one behind the other in one partition, and no event is between them.

    Args:
        capacity: runs kept; what comes while there are so many is not told.
    """

    def __init__(self, capacity: int = MOST_KEPT) -> None:
        self._capacity = capacity
        self._runs: deque[LabelRun] = deque()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, labels: Labels) -> int:
        """Take note of labels; returns how many records there was no room for."""
        runs, left_out = self._runs, 0
        for number, record in zip(labels.offsets.tolist(), labels.records, strict=True):
            if record.origin is None:
                continue
            _, partition, offset = record.origin
            if runs:
                first, where, at, records = runs[-1]
                if where == partition and number - first == offset - at == records:
                    runs[-1] = LabelRun(first, where, at, records + 1)
                    continue
            if len(runs) < self._capacity:
                runs.append(LabelRun(number, partition, offset, 1))
            else:
                left_out += 1
        return left_out

    def tell(self, offsets: IntArray) -> dict[int, list[LabelRun]]:
        """Hand out what came before events: row -> runs, at most `MOST_TOLD`; rows without any are left out.

        Args:
            offsets: [K] int64, numbers of the records of the events, ascending.
        """
        runs, told = self._runs, dict[int, list[LabelRun]]()
        for row, offset in enumerate(offsets.tolist() if runs else ()):
            if not runs:
                break
            listed = list[LabelRun]()
            while runs and runs[0].number < offset and len(listed) < MOST_TOLD:
                listed.append(runs.popleft())
            if listed:
                told[row] = listed
        return told

    def state_dict(self) -> dict[str, Any]:
        """Return what has not been told, for a checkpoint."""
        return {"runs": np.array(self._runs, dtype=np.int64).reshape(-1, 4)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._runs = deque(LabelRun(*run) for run in state["runs"].tolist())
