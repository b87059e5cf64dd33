"""KSWIN: the newest values of a short window against a random draw of its older ones (Kolmogorov-Smirnov).

In: values, in event order. Out: where their distribution changed.

Reference: Raab, Heusinger and Schleif, "Reactive soft prototype computing for concept drift streams", Neurocomputing
416, 2020. Detections are those of river 0.26 where `one_sided` is off: the draws come from Python's Mersenne Twister,
started from the seed and started again after each change.

Axes: W values of the window, R newest values compared with R drawn ones.
"""

import random
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from streamnn.drift.base import DetectorState, FloatArray


class KSWIN:
    """Flag a change where the two samples are too far apart for one distribution.

    The distance is the largest difference D of their distribution functions, and a change is flagged where
    p(D) <= alpha and D > .1. As both samples have R values, D = h / R for a whole h: p is looked up, not computed.

    Args:
        alpha: confidence; smaller flags less. A test is made at every value, so false alarms add up.
        window_size: W.
        stat_size: R.
        seed: of the draws.
        one_sided: compare by how much the newest values lie above the drawn ones (one-sided p); off, either way.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.005,
        window_size: int = 100,
        stat_size: int = 30,
        seed: int = 0,
        one_sided: bool = True,
    ) -> None:
        if 2 * stat_size > window_size:
            raise ValueError(
                f"kswin: stat_size is {stat_size}, but must be at most half of window_size ({window_size}): "
                "so many older values are drawn without repetition"
            )
        self.alpha, self.window_size, self.stat_size = alpha, window_size, stat_size
        self.seed, self.one_sided = seed, one_sided
        self.least = _least_distance(stat_size, alpha, "greater" if one_sided else "two-sided")
        self._begin()

    def _begin(self) -> None:
        self._window: list[float] = []
        self._rng = random.Random(self.seed)  # noqa: S311

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K] and return the indices at which a change was flagged."""
        found = []
        for at, x in enumerate(values.tolist()):
            self._window.append(x)
            if len(self._window) < self.window_size:
                continue
            if self._distance() >= self.least:
                found.append(at)
                self._begin()
            else:
                del self._window[0]
        return found

    def _distance(self) -> int:
        """Draw, and return h."""
        older = self.window_size - self.stat_size
        drawn = [self._window[i] for i in self._rng.sample(range(older), self.stat_size)]
        # +1 for each drawn value, -1 for each new one, in the order of the values, gives R (F_drawn - F_new)
        both = np.array(drawn + self._window[older:])
        order = both.argsort(kind="stable")
        ahead = np.cumsum(np.where(order < self.stat_size, 1, -1))
        ranked = both[order]
        last = np.append(ranked[1:] != ranked[:-1], True)  # of equal values: the difference is read after all of them
        ahead = ahead[last]
        return int(ahead.max() if self.one_sided else np.abs(ahead).max())

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        version, words, gauss = self._rng.getstate()
        assert gauss is None, "only sample() is called, which leaves no half-used normal draw"
        return {
            "window": np.array(self._window, dtype=np.float64),
            "rng_version": version,
            "rng_words": np.array(words, dtype=np.uint32),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._window = np.asarray(state["window"]).tolist()
        words = np.asarray(state["rng_words"]).tolist()
        self._rng.setstate((int(state["rng_version"]), tuple(words), None))


def _least_distance(size: int, alpha: float, alternative: Literal["greater", "two-sided"]) -> int:
    """Return the smallest whole h > size / 10 with p(h / size) <= alpha; size + 1 if there is none."""
    # scipy.stats takes half a second, which only who asks for this detector waits for
    from scipy import stats

    first = np.arange(size)
    # downwards, because p falls with h, and scipy warns that it cannot compute some p close to 1
    for h in range(size, size // 10, -1):
        # h values of the first sample lie below all of the second, and from there on they take turns: D = h / size
        if stats.ks_2samp(first, first + (h - 0.5), alternative=alternative).pvalue > alpha:
            return h + 1
    return size // 10 + 1
