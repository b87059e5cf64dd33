"""The default without one of its ingredients, and trees on its feature maps: what is each part worth?

The parts that run a pool are wrapped: members are left out of the mix, whatever is predicted; for classes columns of a feature map
are set to 0 before any member reads them, and mixtures are left out of their mean; for label sets those seen are forgotten.
Everything else is as `streamnn replay` runs it.

Axes: K rows, D feature columns, M members, C class capacity, T labels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any
from unittest import mock

import numpy as np
from river import forest, tree

from streamnn.pool import (
    blend,
    engines,
    label_mixer,
    linear,
    maps,
    mixer,
    presets,
    squares,
    tables,
    value_forest,
    values,
    votes,
)
from streamnn.pool import forest as trees
from streamnn.pool.layout import Layout
from streamnn.pool.reference import mixer as slow_mixer
from streamnn.pool.reference.common import log_softmax

MIXTURES = ("hedge", "stack", "lead")
COUNTING = (*maps.MEMBERS, *linear.MEMBERS, *tables.MEMBERS, *trees.MEMBERS)
NETWORKS = tuple(spec.name for spec in presets.NETWORKS["best"])
FITTED = (*(name for model in squares.MODELS.values() for name in model.members), *value_forest.MEMBERS)
VALUE_NETWORKS = tuple(spec.name for spec in presets.VALUE_NETWORKS["best"])
LABEL_NETWORKS = tuple(spec.name for spec in presets.LABEL_NETWORKS["best"])


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is left out.

    Attributes:
        columns: feature maps whose columns are 0: "exponential", "waves" or "target".
        members: names of members that are not mixed, * standing for any letters; networks go on learning.
        mixtures: those of `MIXTURES` whose mean is served; none = the mean of all members' log-probabilities.
        sets: whether label sets that have been seen are preferred.
    """

    columns: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    mixtures: tuple[str, ...] = MIXTURES
    sets: bool = True


_NEIGHBOURS, _REPLAY = Ablation(members=("nn*",)), Ablation(members=("*_replay*",))
_VALUES, _RESIDUALS = (tuple(n for n in VALUE_NETWORKS if n.startswith(kind)) for kind in ("value", "residual"))
_ALL_NETWORKS = Ablation(members=("net", "net_*", *_VALUES, *_RESIDUALS))
ABLATIONS: dict[str, dict[str, Ablation]] = {
    "classification": {
        **{f"without_{name}": Ablation(columns=(name,)) for name in ("exponential", "waves", "target")},
        "without_neighbours": _NEIGHBOURS,
        "without_bayes_and_rule": Ablation(members=("naive_bayes", "one_rule")),
        "without_linear": Ablation(members=linear.MEMBERS),
        "without_one_value": Ablation(members=("one_value",)),
        "without_after_label": Ablation(members=("after_label",)),
        "without_trees": Ablation(members=trees.MEMBERS),
        "without_replay": _REPLAY,
        "without_networks": _ALL_NETWORKS,
        "without_hedge": Ablation(mixtures=("stack", "lead")),
        "without_stack": Ablation(mixtures=("hedge", "lead")),
        "without_lead": Ablation(mixtures=("hedge", "stack")),
        "plain_mean": Ablation(mixtures=()),
    },
    "regression": {
        "without_past": Ablation(members=("mean", "last", "slow_mean", "fast_mean")),
        "without_categories": Ablation(members=("last_*", "mean_*", "moved_*")),
        "without_neighbours": _NEIGHBOURS,
        "without_squares": Ablation(members=("squares*",)),
        "without_changes": Ablation(members=("changes*",)),
        "without_trees": Ablation(members=value_forest.MEMBERS),
        "without_value_networks": Ablation(members=_VALUES),
        "without_residual_networks": Ablation(members=_RESIDUALS),
        "without_replay": _REPLAY,
        "without_networks": _ALL_NETWORKS,
        "plain_mean": Ablation(mixtures=()),
    },
    "multilabel": {
        "without_frequency": Ablation(members=("frequency",)),
        "without_neighbours": _NEIGHBOURS,
        "without_weighted": Ablation(members=("nn_weighted",)),
        "without_replay": _REPLAY,
        "without_narrow": Ablation(members=("*_narrow",)),
        "without_networks": _ALL_NETWORKS,
        "without_sets": Ablation(sets=False),
    },
}
CONTROLS: dict[str, Callable[[int], Any]] = {
    "arf_on_maps": lambda seed: forest.ARFClassifier(seed=seed),
    "hat_on_maps": lambda seed: tree.HoeffdingAdaptiveTreeClassifier(seed=seed),
}


def columns(layout: Layout, name: str) -> slice:
    """Tell where a feature map's columns lie in a row."""
    f, p = layout.numeric, layout.plain
    return {
        "exponential": slice(p + f, p + 3 * f),
        "waves": slice(p + 3 * f, p + 7 * f),
        "target": slice(layout.lean, layout.width),
    }[name]


def kept(ablation: Ablation, names: Sequence[str]) -> list[int]:
    """Tell which of the members stay."""
    return [i for i, name in enumerate(names) if not any(fnmatchcase(name, left) for left in ablation.members)]


@contextmanager
def without(ablation: Ablation) -> Iterator[None]:
    """Run pools without it, in this process; of classes labels have to come at once."""
    native = engines.NATIVE
    mine: dict[int, dict[str, np.ndarray]] = {}  # mixers of fewer members, by pool; the pools' own stay as they were

    def run_maps(state: Any, layout: Layout, rows: maps.MapRows, operations: Any) -> None:
        native.maps(state, layout, rows, operations)
        for name in ablation.columns:
            rows.row[:, columns(layout, name)] = 0

    def run_mixer(state: Any, logp: np.ndarray, *rest: Any) -> None:
        classes, stay = logp.shape[2], kept(ablation, (*COUNTING, *NETWORKS))
        small = mine.setdefault(0, mixer.init(len(stay), classes, 0))
        if len(small["active"]) != classes:
            small.update(mixer.grow(small, classes))
        inner = native.mixer if ablation.mixtures == MIXTURES else slow_mixer.run
        inner(small, np.ascontiguousarray(logp[:, stay]), *rest)

    def combine(state: Any, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        _, stack, lead, leads = whole(state, logp)
        hedge = np.log(np.maximum(state["hedge"] @ np.exp(logp), 1e-300))
        said = {"hedge": log_softmax(hedge, state["active"]), "stack": stack, "lead": lead}
        mixed = [said[name] for name in ablation.mixtures] or list(np.maximum(logp, -6))
        return log_softmax(np.mean(mixed, axis=0), state["active"]), stack, lead, leads

    def run_blend(state: Any, said: np.ndarray, *rest: Any, past: int) -> None:
        fields = (said.shape[1] - len((*values.member_names(0), *FITTED, *VALUE_NETWORKS))) // 3
        stay = kept(ablation, (*values.member_names(fields), *FITTED, *VALUE_NETWORKS))
        small = mine.setdefault(id(state["range"]), blend.init(len(stay), len(state["stored"])))
        first = sum(i < past for i in stay)
        native.blend(small, np.ascontiguousarray(said[:, stay]), *rest, past=max(first, 1))
        if not ablation.mixtures:
            served = rest[-2]
            served[~np.isnan(served)] = said.mean(axis=1)[~np.isnan(served)]

    def run_labels(state: Any, said: np.ndarray, *rest: Any) -> None:
        nets = said.shape[1] - len(votes.MEMBERS)
        stay = kept(ablation, (*votes.MEMBERS, *LABEL_NETWORKS[-nets:]))  # of wide rows all networks are narrow
        small = mine.setdefault(0, label_mixer.init(len(stay), said.shape[2], len(state["stored"])))
        native.label_mixer(small, np.ascontiguousarray(said[:, stay]), *rest)

    def run_sets(*words: Any) -> None:
        if ablation.sets:
            native.label_sets(*words)

    whole = slow_mixer._combine
    parts = replace(
        native, maps=run_maps, mixer=run_mixer, blend=run_blend, label_mixer=run_labels, label_sets=run_sets
    )
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
