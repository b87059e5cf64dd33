"""The default without one of its ingredients, and trees on its feature maps: what is each part worth?

The parts that run a pool for classes are wrapped: columns of a feature map are set to 0 before any member reads them, members
are left out of the mix, and mixtures are left out of their mean. Everything else is as `streamnn replay` runs it.

Axes: K rows, D feature columns, M members, C class capacity.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
from river import forest, tree

from streamnn.pool import engines, linear, maps, mixer, presets, tables
from streamnn.pool.layout import Layout
from streamnn.pool.reference import mixer as slow_mixer
from streamnn.pool.reference.common import log_softmax

MIXTURES = ("hedge", "stack", "lead")
COUNTING = (*maps.MEMBERS, *linear.MEMBERS, *tables.MEMBERS)
NETWORKS = tuple(spec.name for spec in presets.NETWORKS["best"])


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is left out.

    Attributes:
        columns: feature maps whose columns are 0: "exponential", "waves", "votes" or "target".
        members: names of members that are not mixed; networks go on learning.
        mixtures: those of `MIXTURES` whose mean is served; none = the mean of all members' log-probabilities.
    """

    columns: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    mixtures: tuple[str, ...] = MIXTURES


ABLATIONS: dict[str, Ablation] = {
    **{f"without_{name}": Ablation(columns=(name,)) for name in ("exponential", "waves", "votes", "target")},
    "without_neighbours": Ablation(members=maps.MEMBERS[:6]),
    "without_bayes_and_rule": Ablation(members=maps.MEMBERS[6:]),
    "without_linear": Ablation(members=linear.MEMBERS),
    "without_one_value": Ablation(members=("one_value",)),
    "without_after_label": Ablation(members=("after_label",)),
    "without_replay": Ablation(members=NETWORKS[1:]),
    "without_networks": Ablation(members=NETWORKS),
    "without_hedge": Ablation(mixtures=("stack", "lead")),
    "without_stack": Ablation(mixtures=("hedge", "lead")),
    "without_lead": Ablation(mixtures=("hedge", "stack")),
    "plain_mean": Ablation(mixtures=()),
}
CONTROLS: dict[str, Callable[[int], Any]] = {
    "arf_on_maps": lambda seed: forest.ARFClassifier(seed=seed),
    "hat_on_maps": lambda seed: tree.HoeffdingAdaptiveTreeClassifier(seed=seed),
}


def columns(layout: Layout, name: str) -> slice:
    """Tell where a feature map's columns lie in a row."""
    f, p, votes = layout.numeric, layout.plain, layout.lean + 6 * layout.views
    return {
        "exponential": slice(p + f, p + 3 * f),
        "waves": slice(p + 3 * f, p + 7 * f),
        "votes": slice(layout.lean, votes),
        "target": slice(votes, layout.width),
    }[name]


@contextmanager
def without(ablation: Ablation) -> Iterator[None]:
    """Run one pool for classes without it, in this process; labels have to come at once."""
    native = engines.NATIVE
    kept = [i for i, name in enumerate((*COUNTING, *NETWORKS)) if name not in ablation.members]
    mine: dict[str, np.ndarray] = {}  # a mixer of fewer members; the pool's own stays as it was

    def run_maps(state: Any, layout: Layout, rows: maps.MapRows, operations: Any) -> None:
        native.maps(state, layout, rows, operations)
        for name in ablation.columns:
            rows.row[:, columns(layout, name)] = 0

    def run_mixer(state: Any, logp: np.ndarray, *rest: Any) -> None:
        classes = logp.shape[2]
        if not mine:
            mine.update(mixer.init(len(kept), classes, 0))
        elif len(mine["active"]) != classes:
            mine.update(mixer.grow(mine, classes))
        inner = native.mixer if ablation.mixtures == MIXTURES else slow_mixer.run
        inner(mine, np.ascontiguousarray(logp[:, kept]), *rest)

    def combine(state: Any, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        _, stack, lead, leads = whole(state, logp)
        hedge = np.log(np.maximum(state["hedge"] @ np.exp(logp), 1e-300))
        said = {"hedge": log_softmax(hedge, state["active"]), "stack": stack, "lead": lead}
        mixed = [said[name] for name in ablation.mixtures] or list(np.maximum(logp, -6))
        return log_softmax(np.mean(mixed, axis=0), state["active"]), stack, lead, leads

    whole = slow_mixer._combine
    parts = replace(native, maps=run_maps, mixer=run_mixer)
    with mock.patch.object(engines, "NATIVE", parts), mock.patch.object(slow_mixer, "_combine", combine):
        yield


@contextmanager
def recorded_rows() -> Iterator[list[np.ndarray]]:
    """Collect the feature rows [K, D] of each chunk that a pool maps, in this process."""
    native, found = engines.NATIVE, []

    def run_maps(state: Any, layout: Layout, rows: maps.MapRows, operations: Any) -> None:
        native.maps(state, layout, rows, operations)
        found.append(rows.row.copy())

    with mock.patch.object(engines, "NATIVE", replace(native, maps=run_maps)):
        yield found
