"""Detectors by name: what can be configured, and what each one is fed with.

The losses of a stream have no upper bound, but most detectors want values in [0, 1] or errors:

- adwin, page_hinkley, hddm_a, hddm_w watch the error degree 1 - exp(-loss), see `error_degree`;
- ddm, eddm watch errors: 1 where the loss exceeds `error_above` (log 2 at first: for a log loss, where the truth was
  given less than one half);
- kswin compares ranks and watches the loss itself.

`one_sided` (1, the default) flags rises only; 0 flags falls too. ddm and eddm know rises only.
"""

import math
from collections.abc import Callable, Mapping

from streamnn.drift.adwin import ADWIN
from streamnn.drift.base import DriftDetector, FloatArray, NoDetector, OnLoss, error_degree
from streamnn.drift.ddm import DDM, EDDM
from streamnn.drift.hddm import HDDMA, HDDMW
from streamnn.drift.kswin import KSWIN
from streamnn.drift.page_hinkley import PageHinkley
from streamnn.options import Option, choose, settle

_ONE_SIDED = Option(default=1, low=0, high=1, whole=True, about="1: only a rise of the loss is a drift; 0: a fall too")
_ERROR_ABOVE = Option(default=math.log(2), low=0, high=math.inf, about="a greater loss counts as an error")
_CONFIDENCE = Option(default=0.001, low=1e-12, high=0.5, about="confidence; smaller flags less")
_WARM_START = Option(default=30, low=1, high=1e9, whole=True, about="no test before so many events (eddm: errors)")

DETECTORS: Mapping[str, Mapping[str, Option]] = {
    "none": {},
    "adwin": {
        "delta": Option(default=0.002, low=1e-12, high=0.5, about="confidence; smaller flags less"),
        "clock": Option(default=32, low=1, high=1e9, whole=True, about="events between tests"),
        "max_buckets": Option(default=5, low=2, high=1000, whole=True, about="sums kept of each length"),
        "min_window_length": Option(default=5, low=1, high=1e9, whole=True, about="least length of a tested part"),
        "grace_period": Option(default=10, low=1, high=1e9, whole=True, about="no test of a shorter window"),
        "one_sided": _ONE_SIDED,
    },
    "page_hinkley": {
        "delta": Option(default=0.005, low=0, high=1, about="smaller deviations do not accumulate"),
        "threshold": Option(default=50, low=1e-6, high=1e9, about="cumulative deviation that is a drift"),
        "alpha": Option(default=0.9999, low=0.5, high=1, about="kept of the cumulative deviation at each event"),
        "min_instances": Option(default=30, low=1, high=1e9, whole=True, about="no test before so many events"),
        "one_sided": _ONE_SIDED,
    },
    "kswin": {
        "alpha": Option(default=0.005, low=1e-12, high=0.5, about="confidence; smaller flags less"),
        "window_size": Option(default=100, low=4, high=100_000, whole=True, about="events in the window"),
        "stat_size": Option(default=30, low=2, high=50_000, whole=True, about="newest events compared; at most half"),
        "one_sided": _ONE_SIDED,
    },
    "ddm": {
        "warm_start": _WARM_START,
        "drift_threshold": Option(default=3, low=0.1, high=1000, about="deviations above the lowest error rate"),
        "error_above": _ERROR_ABOVE,
    },
    "eddm": {
        "warm_start": _WARM_START,
        "beta": Option(default=0.9, low=0.01, high=1, about="share of the longest distance between errors"),
        "error_above": _ERROR_ABOVE,
    },
    "hddm_a": {"drift_confidence": _CONFIDENCE, "one_sided": _ONE_SIDED},
    "hddm_w": {
        "drift_confidence": _CONFIDENCE,
        "fading": Option(default=0.05, low=1e-6, high=1, about="weight of the newest event"),
        "one_sided": _ONE_SIDED,
    },
}


def make_detector(name: str, options: Mapping[str, float], *, seed: int) -> DriftDetector:
    """Make the detector `name` for losses.

    Args:
        name: one of `DETECTORS`.
        options: its constants; what is not given keeps its default, see `DETECTORS`.
        seed: of the random draws (kswin makes some).

    Raises:
        ValueError: there is no such detector or option, or a value is outside its range; the message says what is legal.
    """
    o = settle(f"drift detector {name}", options, choose("drift detector", name, DETECTORS))
    match name:
        case "adwin":
            adwin = ADWIN(
                delta=o["delta"],
                clock=int(o["clock"]),
                max_buckets=int(o["max_buckets"]),
                min_window_length=int(o["min_window_length"]),
                grace_period=int(o["grace_period"]),
                one_sided=bool(o["one_sided"]),
            )
            return OnLoss(adwin, error_degree)
        case "page_hinkley":
            page_hinkley = PageHinkley(
                delta=o["delta"],
                threshold=o["threshold"],
                alpha=o["alpha"],
                min_instances=int(o["min_instances"]),
                one_sided=bool(o["one_sided"]),
            )
            return OnLoss(page_hinkley, error_degree)
        case "kswin":
            return KSWIN(
                alpha=o["alpha"],
                window_size=int(o["window_size"]),
                stat_size=int(o["stat_size"]),
                seed=seed,
                one_sided=bool(o["one_sided"]),
            )
        case "ddm":
            ddm = DDM(warm_start=int(o["warm_start"]), drift_threshold=o["drift_threshold"])
            return OnLoss(ddm, _errors_above(o["error_above"]))
        case "eddm":
            return OnLoss(EDDM(warm_start=int(o["warm_start"]), beta=o["beta"]), _errors_above(o["error_above"]))
        case "hddm_a":
            hddm_a = HDDMA(drift_confidence=o["drift_confidence"], one_sided=bool(o["one_sided"]))
            return OnLoss(hddm_a, error_degree)
        case "hddm_w":
            hddm_w = HDDMW(drift_confidence=o["drift_confidence"], fading=o["fading"], one_sided=bool(o["one_sided"]))
            return OnLoss(hddm_w, error_degree)
    return NoDetector()


def _errors_above(limit: float) -> Callable[[FloatArray], FloatArray]:
    def errors(loss: FloatArray) -> FloatArray:
        return (loss > limit).astype(float)

    return errors
