"""What every drift detector offers, and how a loss becomes the bounded value or the error that some of them need."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
DetectorState = dict[str, Any]


class DriftDetector(Protocol):
    """Watch the losses of a stream, in event order.

    How the stream is cut into updates changes neither what is found nor the state.
    """

    def update(self, loss: FloatArray) -> list[int]:
        """Take the next losses [K] and return the indices into them at which a drift was flagged."""
        ...

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint: plain values and arrays."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; the next update goes on bit-equal."""
        ...


class NoDetector:
    """Find nothing."""

    def update(self, loss: FloatArray) -> list[int]:  # noqa: ARG002
        """Find nothing."""
        return []

    def state_dict(self) -> DetectorState:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""


class OnLoss:
    """Feed a detector with a function of the loss instead of the loss.

    Args:
        detector: watches the values.
        value: losses [K] -> values [K], each a function of its own loss alone.
    """

    def __init__(self, detector: DriftDetector, value: Callable[[FloatArray], FloatArray]) -> None:
        self.detector, self.value = detector, value

    def update(self, loss: FloatArray) -> list[int]:
        """Take the next losses."""
        return self.detector.update(self.value(loss))

    def state_dict(self) -> DetectorState:
        """Return the detector's state."""
        return self.detector.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.detector.load_state_dict(state)


def error_degree(loss: FloatArray) -> FloatArray:
    """Bring losses from [0, inf) to [0, 1): v = 1 - exp(-loss), [K].

    For a log loss this is the probability that was not given to the truth, and above 1/2 the truth was not the likelier
    half. For other losses it is a bound that keeps small losses as they are (v ~ loss) and lets no single event count for
    more than 1.
    """
    # NumPy's own exp may round differently where a value lies in a vector register: the cut into updates would show
    bounded = np.where(loss > 0, -loss, 0.0).tolist()
    return 0.0 - np.array([*map(math.expm1, bounded)], dtype=np.float64)
