"""The pool for one value: maps, lags, members and mixer, run in stages over the same operations.

Networks learn the target in deviations, or its residual in residual scales, as these were when the row is learned.

Axes: K rows, F numeric inputs, P plain inputs, D feature columns, M members.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool import blend, maps, net, replay, squares, value_forest, values
from streamnn.pool.classifier import PENDING, PREDICT, check_arrays, pieces, widened
from streamnn.pool.engines import Parts
from streamnn.pool.layout import Arrays, ValueLayout
from streamnn.pool.presets import FORESTS, VALUE_NETWORKS, Preset

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ValueChunk:
    """Rows as a pool for a value reads them.

    Attributes:
        x: [K, F'] float64 numeric inputs, NaN = missing.
        plain: [K, P'] float64, 0/1 of categories, NaN = missing.
        field: [P'] int32, the field of each plain input.
        y: [K] float64, NaN = unknown.
        number: [K] int64 event numbers.
        moment: [K] float64 seconds, NaN = missing; no rows where events have no moments.
    """

    x: FloatArray
    plain: FloatArray
    field: npt.NDArray[np.int32]
    y: FloatArray
    number: npt.NDArray[np.int64]
    moment: FloatArray

    def __len__(self) -> int:
        return len(self.number)


class ValuePool:
    """Members and mixer for one value.

    Args:
        preset: which networks.
        numeric: numeric inputs of the first event.
        plain: plain inputs of the first event.
        fields: fields whose categories are watched, fixed from the start.
        timed: whether events have moments, fixed from the start.
        seed: start weights and draws depend on it alone.
        parts: who runs it.
    """

    def __init__(
        self, preset: Preset, *, numeric: int, plain: int, fields: int, timed: bool, seed: int, parts: Parts
    ) -> None:
        self.preset, self.seed, self.parts = preset, seed, parts
        self.nets = VALUE_NETWORKS[preset]
        self._first = (numeric, plain, fields, int(timed))
        self._timed = timed
        self.layout = ValueLayout(numeric, plain, fields)
        names = tuple(spec.name for spec in self.nets)
        fitted = [name for model in squares.MODELS.values() for name in model.members]
        self._grows = preset in FORESTS
        trees = value_forest.MEMBERS if self._grows else ()
        self.members = (*values.member_names(fields), *fitted, *trees, *names)
        self.state = self._fresh(self.layout)

    @property
    def parameters(self) -> int:
        """How many weights the networks and linear members have."""
        names = [(spec.name, name) for spec in self.nets for name in ("w0", "b0", "wo", "bo", "ws")]
        return sum(
            self.state[part][name].size for part, name in [*names, *((model, "weights") for model in squares.MODELS)]
        )

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weight in the first hedge (they sum to 1) and in the least-squares stack (free in sign)."""
        state = self.state["blend"]
        pairs = zip(state["hedge"][0].tolist(), state["squares"][0].tolist(), strict=True)
        return dict(zip(self.members, pairs, strict=True))

    def grow(self, *, numeric: int, plain: int) -> None:
        """Make room for inputs; predictions stay as they are."""
        old, state = self.layout, self.state
        if numeric <= old.numeric and plain <= old.plain:
            return
        new = old.grown(numeric=numeric, plain=plain, fields=old.fields)
        state["maps"] = maps.grow(state["maps"], old, new)
        state["values"] = values.grow(state["values"], old, new, len(self.members))
        for name, model in squares.MODELS.items():
            state[name] = squares.grow(model, state[name], old, new)
        if self._grows:
            state["forest"] = value_forest.grow(state["forest"], old, new)
        state["replay"] = replay.grow(state["replay"], old, new)
        for i, spec in enumerate(self.nets):
            state[spec.name] = net.grow(spec, state[spec.name], old, new, 1, seed=self._seed(i))
        self.layout = new

    def run(self, chunk: ValueChunk, operations: Operations, *, rate: float) -> tuple[FloatArray, FloatArray]:
        """Run operations: returns served [K] and loss [K], NaN where nothing was."""
        waits = (operations.kind == Kind.PREDICT_OBSERVE).any() or np.isnan(chunk.y).any()
        if waits and len(self.state["values"]["stored"]) == 0:
            self._remember()
        served, loss = np.full(len(chunk), np.nan), np.full(len(chunk), np.nan)
        data = self._rows(chunk)
        for piece in pieces(operations):
            self._run(chunk, data, piece, served, loss, rate=rate)
        return served, loss

    def predict(self, chunk: ValueChunk) -> FloatArray:
        """Serve rows without changing anything: [K]."""
        events = len(chunk)
        served, loss = np.full(events, np.nan), np.full(events, np.nan)
        operations = Operations(np.full(1, PREDICT, dtype=np.int8), np.zeros(1, dtype=np.int64), np.full(1, events))
        if events:
            self._run(chunk, self._rows(chunk), operations, served, loss, rate=0.0)
        return served

    def forget(self) -> None:
        """Forget the networks' second moments, so that the next steps are as large as the first."""
        for spec in self.nets:
            net.forget(self.state[spec.name])

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        layout = self.layout
        return {
            "layout": [layout.numeric, layout.plain, layout.fields],
            "first": list(self._first),
            "arrays": {part: {name: a.copy() for name, a in arrays.items()} for part, arrays in self.state.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` of a pool with the same preset returned.

        Raises:
            ValueError: the state belongs to another pool.
        """
        layout = ValueLayout(*state["layout"])
        check_arrays(state["arrays"], self._fresh(layout))
        self.layout = layout
        self.state = {part: {name: np.array(a) for name, a in held.items()} for part, held in state["arrays"].items()}

    def _fresh(self, layout: ValueLayout) -> dict[str, Arrays]:
        """Return the state of a pool of these sizes that has seen nothing."""
        members, sample = len(self.members), any(s.again and not s.window for s in self.nets)
        states = {
            "maps": maps.init(layout, 0),
            "values": values.init(layout, members, 0),
            **{name: squares.init(model, layout) for name, model in squares.MODELS.items()},
            "blend": blend.init(members, 0),
            "replay": replay.init(layout.width, values=2, outputs=1, sample=sample),
        }
        if self._grows:
            states["forest"] = value_forest.init(layout)
        for i, spec in enumerate(self.nets):
            states[spec.name] = net.init(spec, layout, 1, seed=self._seed(i), objective=spec.objective)
        return states

    def _rows(self, chunk: ValueChunk) -> tuple[maps.MapRows, values.ValueRows]:
        layout, events = self.layout, len(chunk)
        x, plain = widened(chunk.x, layout.numeric), widened(chunk.plain, layout.plain)
        field = np.full(layout.plain, -1, dtype=np.int32)
        field[: len(chunk.field)] = chunk.field
        rows = np.zeros((events, layout.width), dtype=np.float32)
        rank = np.full((events, layout.numeric), np.nan, dtype=np.float32)
        nobody, silent = np.full(events, -1, dtype=np.int32), np.zeros((events, 1, 0))
        said = np.zeros((events, len(self.members)))
        now, then, used = np.zeros((events, 4)), np.zeros((events, 3)), np.full((events, 2), np.nan)
        age, moment = np.full((events, layout.fields), -1), np.zeros(0)
        if self._timed:
            moment = chunk.moment if len(chunk.moment) else np.full(events, np.nan)
        return (
            maps.MapRows(x, plain, nobody, chunk.number, rows, rank, silent),
            values.ValueRows(plain, field, chunk.y, chunk.number, rows, rank, said, now, then, used, age, moment),
        )

    def _run(
        self,
        chunk: ValueChunk,
        data: tuple[maps.MapRows, values.ValueRows],
        operations: Operations,
        served: FloatArray,
        loss: FloatArray,
        *,
        rate: float,
    ) -> None:
        mapped, rows = data
        state, layout, parts, events = self.state, self.layout, self.parts, len(chunk)
        first = len(self.members) - len(self.nets)
        at = len(values.member_names(layout.fields))
        parts.maps(state["maps"], layout, mapped, operations)
        parts.values(state["values"], layout, rows, operations)
        for name, model in squares.MODELS.items():
            parts.squares(model, state[name], layout, rows, operations, first=at)
            at += len(model.members)
        if self._grows:
            inputs = (mapped.plain, mapped.x, rows.used, rows.now)
            parts.value_forest(state["forest"], layout, *inputs, rows.said, operations, first=at, seed=self._seed(1001))
        serving = bool(len(operations)) and operations.kind[0] == PREDICT
        nothing = np.zeros(0, dtype=np.int32)
        learned = nothing if serving else replay.order(operations, ~np.isnan(chunk.y))
        draws = replay.Draws(parts.choose, state["replay"], learned, chunk.number, seed=self._seed(1000))
        store, label = state["replay"], np.zeros(events, dtype=np.int32)
        wanted = np.ascontiguousarray(rows.used.T)[:, :, None]  # [2, K, 1] value and residual
        units = np.ascontiguousarray(rows.then[:, :2]), np.stack([np.zeros(events), rows.then[:, 2]], axis=1)
        out, losses = np.zeros((events, 1, 1)), np.full(events, np.nan)
        for i, spec in enumerate(self.nets):
            chosen = draws.choose(spec.again, spec.window, seed=self._seed(i))
            held = "recent" if spec.window else "sample"
            which = int(spec.residual)
            kept = (store[held], store[f"{held}_label"], store[f"{held}_y"][which])
            mine = net.NetRows(rows.row, label, wanted[which], units[which], chosen, kept)
            parts.net(
                spec, state[spec.name], mine, operations, out, losses, member=0, rate=rate, objective=spec.objective
            )
            offset, scale = (rows.now[:, 3], rows.now[:, 2]) if spec.residual else (rows.now[:, 0], rows.now[:, 1])
            rows.said[:, first + i] = offset + scale * out[:, 0, 0]
        if not serving:
            draws.commit(rows.row, label, wanted)
        past = values.past_members(layout.fields)
        parts.blend(state["blend"], rows.said, chunk.y, rows.used, chunk.number, operations, served, loss, past=past)

    def _remember(self) -> None:
        """Make room for events that wait for labels."""
        fresh = values.init(self.layout, len(self.members), PENDING)
        for name in ("stored", "stored_row", "stored_rank", "stored_said"):
            self.state["values"][name] = fresh[name]
        fresh = maps.init(self.layout, PENDING)
        for name in ("stored", "stored_row", "stored_rank"):
            self.state["maps"][name] = fresh[name]
        fresh = blend.init(len(self.members), PENDING)
        for name in ("stored", "stored_said"):
            self.state["blend"][name] = fresh[name]

    def _seed(self, member: int) -> int:
        return self.seed * 1009 + member
