"""Learning-rate control: what the optimizer's rate is to be, decided from the prequential loss at fixed event counts.

In: at every decision, the losses learned since the last one, and whether a drift was flagged among them. Out: the rate,
and whether the optimizer is to forget its second moments.

Losses enter as their error degree in [0, 1], see `streamnn.drift.error_degree`, so that no single one can decide.

Axes: K losses since the last decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from streamnn.drift.base import FloatArray, error_degree
from streamnn.options import Option, choose, settle


@dataclass(frozen=True, slots=True)
class Action:
    """What is decided.

    Attributes:
        rate: learning rate from now on.
        clear: the optimizer forgets its second moments.
    """

    rate: float
    clear: bool = False


class RateControl(Protocol):
    """Decide the learning rate; called at fixed event counts."""

    @property
    def rate(self) -> float:
        """The rate in force."""
        ...

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:
        """Take the losses learned since the last call, [K] (possibly none), and decide.

        Args:
            loss: in the order of learning.
            drifted: whether a drift was flagged among them.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything for a checkpoint: plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; the next decisions are the same."""
        ...


class Fixed:
    """Keep the base rate."""

    def __init__(self, base_rate: float) -> None:
        self.base_rate = base_rate

    @property
    def rate(self) -> float:
        """The base rate."""
        return self.base_rate

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:  # noqa: ARG002
        """Keep the base rate."""
        return Action(self.base_rate)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""


class Exponential:
    """Halve the rate every `half_life` learned events, down to a floor: rate = base max(floor, 2^(-n / half_life)).

    Args:
        base_rate: at the first event.
        half_life: events.
        floor: share of the base rate.
    """

    def __init__(self, base_rate: float, *, half_life: float, floor: float) -> None:
        self.base_rate, self.half_life, self.floor = base_rate, half_life, floor
        self.learned = 0

    @property
    def rate(self) -> float:
        """The rate in force."""
        return float(self.base_rate * max(self.floor, 0.5 ** (self.learned / self.half_life)))

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:  # noqa: ARG002
        """Count the events."""
        self.learned += len(loss)
        return Action(self.rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"learned": self.learned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the count."""
        self.learned = int(state["learned"])


class Level:
    """The level of the error degree, fading: each event counts (1 - 1 / horizon) of the next one.

    Args:
        horizon: events.
    """

    def __init__(self, horizon: float) -> None:
        self.horizon = horizon
        self.weight, self.total = 0.0, 0.0

    @property
    def value(self) -> float:
        """The level, in [0, 1]; 0 before the first event."""
        return self.total / self.weight if self.weight else 0.0

    def add(self, loss: FloatArray) -> None:
        """Count the losses [K] of one decision, all with the same weight."""
        keep = (1 - 1 / self.horizon) ** len(loss)
        self.total = keep * self.total + float(error_degree(loss).sum())
        self.weight = keep * self.weight + len(loss)


class Plateau:
    """Reduce the rate where the level of the loss no longer falls, down to a floor; never raise it.

    Args:
        base_rate: at the first event.
        factor: rate after a reduction, as a share of the one before.
        patience: learned events without a new lowest level that are waited for.
        cooldown: learned events after a reduction before the waiting begins.
        threshold: a new lowest level is lower by this share.
        floor: share of the base rate.
        horizon: events that the level fades over.
    """

    def __init__(
        self,
        base_rate: float,
        *,
        factor: float,
        patience: float,
        cooldown: float,
        threshold: float,
        floor: float,
        horizon: float,
    ) -> None:
        self.base_rate, self.factor, self.patience, self.cooldown = base_rate, factor, patience, cooldown
        self.threshold, self.floor = threshold, floor
        self.level = Level(horizon)
        self.share, self.lowest, self.waited, self.cooling = 1.0, 1.0, 0, 0.0

    @property
    def rate(self) -> float:
        """The rate in force."""
        return self.base_rate * self.share

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:  # noqa: ARG002
        """Follow the level."""
        self.level.add(loss)
        if self.cooling > 0:
            self.cooling -= len(loss)
        elif self.level.value < self.lowest * (1 - self.threshold):
            self.lowest, self.waited = self.level.value, 0
        else:
            self.waited += len(loss)
            if self.waited > self.patience and self.share > self.floor:
                self.share = max(self.floor, self.share * self.factor)
                self.waited, self.cooling = 0, self.cooldown
        return Action(self.rate)

    def state_dict(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""
        return {
            "weight": self.level.weight,
            "total": self.level.total,
            "share": self.share,
            "lowest": self.lowest,
            "waited": self.waited,
            "cooling": self.cooling,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.level.weight, self.level.total = float(state["weight"]), float(state["total"])
        self.share, self.lowest = float(state["share"]), float(state["lowest"])
        self.waited, self.cooling = int(state["waited"]), float(state["cooling"])


class Drift(Plateau):
    """Reduce as `Plateau` does; where drift is seen, go back to the base rate and clear the second moments."""

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:
        """Follow the level, or begin anew."""
        if drifted:
            self.level = Level(self.level.horizon)
            self.share, self.lowest, self.waited, self.cooling = 1.0, 1.0, 0, 0.0
            return Action(self.rate, clear=True)
        return super().update(loss, drifted=drifted)


_FLOOR = Option(default=0.3, low=0, high=1, about="lowest rate, as a share of the base rate")
_PLATEAU: Mapping[str, Option] = {
    "factor": Option(default=0.8, low=0.01, high=1, about="rate after a reduction, as a share of the one before"),
    "patience": Option(default=4000, low=1, high=1e12, about="learned events without improvement before a reduction"),
    "cooldown": Option(default=1000, low=0, high=1e12, about="learned events after it before waiting begins"),
    "threshold": Option(default=0.005, low=0, high=0.99, about="share by which a lower level is an improvement"),
    "floor": _FLOOR,
    "horizon": Option(default=1000, low=1, high=1e12, about="learned events that the level fades over"),
}
CONTROLS: Mapping[str, Mapping[str, Option]] = {
    "fixed": {},
    "exponential": {
        "half_life": Option(default=20_000, low=1, high=1e15, about="learned events in which the rate halves"),
        "floor": Option(default=0.1, low=0, high=1, about="lowest rate, as a share of the base rate"),
    },
    "plateau": _PLATEAU,
    "drift": _PLATEAU,
}


def make_control(name: str, base_rate: float, options: Mapping[str, float]) -> RateControl:
    """Make the control `name`.

    Args:
        name: one of `CONTROLS`.
        base_rate: the highest rate there will be.
        options: its constants; what is not given keeps its default, see `CONTROLS`.

    Raises:
        ValueError: there is no such control or option, or a value is outside its range; the message says what is legal.
    """
    o = settle(f"learning-rate control {name}", options, choose("learning-rate control", name, CONTROLS))
    match name:
        case "exponential":
            return Exponential(base_rate, half_life=o["half_life"], floor=o["floor"])
        case "plateau":
            return Plateau(base_rate, **o)
        case "drift":
            return Drift(base_rate, **o)
    return Fixed(base_rate)
