"""The pool for several 0/1 labels of one event: networks with an output a label, neighbours, and a mixer a label.

Axes: K rows, F numeric inputs, P plain inputs, T labels, D feature columns, M members.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamnn.operations import FloatArray, IntArray, Kind, Operations
from streamnn.pool import label_mixer, label_sets, maps, net, replay, votes
from streamnn.pool.classifier import PREDICT, check_arrays, pieces, widened
from streamnn.pool.engines import Parts
from streamnn.pool.inputs import Inputs
from streamnn.pool.layout import Arrays, Layout
from streamnn.pool.presets import LABEL_NETWORKS, NARROW_LABEL_NETWORKS, Preset

PENDING = 2048
WIDE = 2000  # columns above which all networks read the plain inputs and Z alone: the rest would cost seven times more


class LabelPool:
    """Members and mixers for T labels.

    Args:
        preset: which networks.
        numeric: numeric inputs of the first event.
        plain: plain inputs of the first event.
        labels: T.
        seed: start weights and draws depend on it alone.
        parts: who runs it.
    """

    def __init__(self, preset: Preset, *, numeric: int, plain: int, labels: int, seed: int, parts: Parts) -> None:
        self.preset, self.seed, self.parts, self.labels = preset, seed, parts, labels
        self._first = (numeric, plain, labels)
        self.layout = Layout(numeric, plain, 0, False)
        self.nets = LABEL_NETWORKS[preset]
        if self.layout.lean > WIDE:
            self.nets = NARROW_LABEL_NETWORKS[preset]
        self.members = (*votes.MEMBERS, *(spec.name for spec in self.nets))
        self.state = self._fresh(self.layout)

    @property
    def parameters(self) -> int:
        """How many weights the networks have."""
        names = [(spec.name, name) for spec in self.nets for name in ("w0", "b0", "wo", "bo", "ws")]
        return sum(self.state[part][name].size for part, name in names)

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weight in the hedges (the mean of both; they sum to 1) and in the stack, the mean over labels."""
        state = self.state["mixer"]
        hedges = (state["hedge"].mean(axis=1) + state["common"]) / 2
        pairs = zip(hedges.tolist(), state["stack"].mean(axis=1).tolist(), strict=True)
        return dict(zip(self.members, pairs, strict=True))

    def grow(self, *, numeric: int, plain: int) -> None:
        """Make room for inputs; predictions stay as they are."""
        old, state = self.layout, self.state
        if numeric <= old.numeric and plain <= old.plain:
            return
        new = old.grown(numeric=numeric, plain=plain, classes=0, targets=False)
        state["maps"] = maps.grow(state["maps"], old, new)
        state["votes"] = votes.grow(state["votes"], old, new)
        state["replay"] = replay.grow(state["replay"], old, new)
        for i, spec in enumerate(self.nets):
            state[spec.name] = net.grow(spec, state[spec.name], old, new, self.labels, seed=self._seed(i))
        self.layout = new

    def run(
        self, inputs: Inputs, y: FloatArray, number: IntArray, operations: Operations, *, rate: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Run operations over labels [K, T]: served [K, T], loss [K], and thresholds [K, T] at that time.

        NaN where nothing was.
        """
        waits = (operations.kind == Kind.PREDICT_OBSERVE).any() or np.isnan(y).any()
        if waits and len(self.state["maps"]["stored"]) == 0:
            self._remember()
        data, y = self._rows(inputs, y, number), np.ascontiguousarray(y)
        served, loss = np.full(y.shape, np.nan), np.full(len(y), np.nan)
        threshold = np.full(y.shape, np.nan)
        for piece in pieces(operations):
            self._run(data, y, piece, served, loss, threshold, rate=rate)
        return served, loss, threshold

    def predict(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Serve rows without changing anything: served [K, T] and thresholds [K, T]."""
        events = len(inputs.x)
        y, served = np.full((events, self.labels), np.nan), np.full((events, self.labels), np.nan)
        operations = Operations(np.full(1, PREDICT, dtype=np.int8), np.zeros(1, dtype=np.int64), np.full(1, events))
        lost, threshold = np.full(events, np.nan), np.full(y.shape, np.nan)
        if events:
            data = self._rows(inputs, y, np.zeros(events, dtype=np.int64))
            self._run(data, y, operations, served, lost, threshold, rate=0.0)
        return served, threshold

    def forget(self) -> None:
        """Forget the networks' second moments, so that the next steps are as large as the first."""
        for spec in self.nets:
            net.forget(self.state[spec.name])

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        return {
            "layout": [self.layout.numeric, self.layout.plain],
            "first": list(self._first),
            "arrays": {part: {name: a.copy() for name, a in arrays.items()} for part, arrays in self.state.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` of a pool with the same preset returned.

        Raises:
            ValueError: the state belongs to another pool.
        """
        numeric, plain = state["layout"]
        layout = Layout(numeric, plain, 0, False)
        check_arrays(state["arrays"], self._fresh(layout))
        self.layout = layout
        self.state = {part: {name: np.array(a) for name, a in held.items()} for part, held in state["arrays"].items()}

    def _fresh(self, layout: Layout) -> dict[str, Arrays]:
        """Return the state of a pool of these sizes that has seen nothing."""
        labels, sample = self.labels, any(s.again and not s.window for s in self.nets)
        states = {
            "maps": maps.init(layout, 0),
            "votes": votes.init(layout, labels),
            "mixer": label_mixer.init(len(self.members), labels, 0),
            "sets": label_sets.init(labels),
            "replay": replay.init(layout.width, values=1, outputs=labels, sample=sample),
        }
        for i, spec in enumerate(self.nets):
            states[spec.name] = net.init(spec, layout, labels, seed=self._seed(i), objective=spec.objective)
        return states

    def _rows(self, inputs: Inputs, y: FloatArray, number: IntArray) -> maps.MapRows:
        layout, events = self.layout, len(y)
        rows = np.zeros((events, layout.width), dtype=np.float32)
        rank = np.full((events, layout.numeric), np.nan, dtype=np.float32)
        whole = np.where(np.isnan(y).any(axis=1), -1, 0).astype(np.int32)  # rows with a label to come are kept
        x, plain = widened(inputs.x, layout.numeric), widened(inputs.plain, layout.plain)
        return maps.MapRows(x, plain, whole, number, rows, rank, np.zeros((events, len(maps.MEMBERS), 0)))

    def _run(
        self,
        data: maps.MapRows,
        y: FloatArray,
        operations: Operations,
        served: FloatArray,
        loss: FloatArray,
        threshold: FloatArray,
        *,
        rate: float,
    ) -> None:
        state, parts, events = self.state, self.parts, len(y)
        said = np.full((events, len(self.members), self.labels), 0.5)
        parts.maps(state["maps"], self.layout, data, operations)
        near, weight = np.zeros((events, votes.NEAR), dtype=np.int64), np.zeros((events, votes.NEAR))
        parts.votes(state["votes"], self.layout, data.row, y, said, near, weight, operations)
        serving = bool(len(operations)) and operations.kind[0] == PREDICT
        nobody, some = np.zeros(0, dtype=np.int32), np.asarray((~np.isnan(y)).any(axis=1))
        learned = nobody if serving else replay.order(operations, some)
        draws = replay.Draws(parts.choose, state["replay"], learned, data.number, seed=self._seed(1000))
        store, label = state["replay"], np.zeros(events, dtype=np.int32)
        out, losses, nothing = np.zeros((events, 1, self.labels)), np.full(events, np.nan), np.zeros((0, 2))
        for i, spec in enumerate(self.nets):
            chosen = draws.choose(spec.again, spec.window, seed=self._seed(i))
            held = "recent" if spec.window else "sample"
            kept = (store[held], store[f"{held}_label"], store[f"{held}_y"][0])
            mine = net.NetRows(data.row, label, y, nothing, chosen, kept)
            parts.net(
                spec, state[spec.name], mine, operations, out, losses, member=0, rate=rate, objective=spec.objective
            )
            said[:, len(votes.MEMBERS) + i] = 1 / (1 + np.exp(-np.clip(out[:, 0], -30, 30)))
        if not serving:
            draws.commit(data.row, label, y[None])
        parts.label_mixer(state["mixer"], said, y, data.number, operations, served, loss, threshold)
        parts.label_sets(state["sets"], y, served, threshold, near, weight, operations)

    def _remember(self) -> None:
        """Make room for events that wait for labels."""
        fresh = maps.init(self.layout, PENDING)
        for name in ("stored", "stored_row", "stored_rank"):
            self.state["maps"][name] = fresh[name]
        fresh = label_mixer.init(len(self.members), self.labels, PENDING)
        for name in ("stored", "stored_said"):
            self.state["mixer"][name] = fresh[name]

    def _seed(self, member: int) -> int:
        return self.seed * 1009 + member


def shifted(p: FloatArray, threshold: FloatArray) -> FloatArray:
    """Move probabilities so that the threshold lies at one half: logit p - logit threshold, both [K, T]."""
    moved: FloatArray = p * (1 - threshold) / (p * (1 - threshold) + (1 - p) * threshold)
    return moved
