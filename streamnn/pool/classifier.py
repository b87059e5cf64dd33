"""The pool for one target with classes: maps, members and mixer, run in stages over the same operations.

Each stage is one pass over a chunk's operations and reads what the stages before it wrote for the same rows. Stages
meet only in the order of labels, which is the same for all, so the result is that of one event after the other.

Axes: K rows, F numeric inputs, P plain inputs, C class capacity, D feature columns, M members.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool import forest, linear, maps, mixer, net, replay, tables
from streamnn.pool.engines import Parts
from streamnn.pool.layout import TARGET_COLUMNS, Arrays, Layout
from streamnn.pool.presets import FORESTS, NETWORKS, Preset

PENDING = 2048  # events whose features and opinions wait for a label; later ones are made again from their inputs
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows as a pool reads them.

    Attributes:
        x: [K, F'] float64 numeric inputs, NaN = missing.
        plain: [K, P'] float64, 0/1 of categories, NaN = missing.
        label: [K] int32 class, -1 = unknown.
        number: [K] int64 event numbers.
    """

    x: FloatArray
    plain: FloatArray
    label: npt.NDArray[np.int32]
    number: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.number)


class ClassPool:
    """Members and mixer for one target.

    Args:
        preset: which networks.
        numeric: numeric inputs of the first event.
        plain: plain inputs of the first event.
        classes: class capacity at the start, at least 2.
        seed: start weights and draws depend on it alone.
        parts: who runs it.
    """

    def __init__(self, preset: Preset, *, numeric: int, plain: int, classes: int, seed: int, parts: Parts) -> None:
        self.preset, self.seed, self.parts = preset, seed, parts
        self.nets = NETWORKS[preset]
        self._first = (numeric, plain, classes)
        self.layout = Layout(numeric, plain, classes, self._targets(classes))
        self._counts = preset != "single"
        self._grows = preset in FORESTS
        before = (*maps.MEMBERS, *linear.MEMBERS, *tables.MEMBERS) if self._counts else ()
        trees = forest.MEMBERS if self._grows else ()
        self.members = (*before, *trees, *(spec.name for spec in self.nets))
        self.state = self._fresh(self.layout)

    @property
    def parameters(self) -> int:
        """How many weights the networks and linear members have."""
        names = [(spec.name, name) for spec in self.nets for name in ("w0", "b0", "wo", "bo", "ws")]
        names += [("linear", name) for name in ("weights", "adam")] if self._counts else []
        return sum(self.state[part][name].size for part, name in names)

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weight in the hedge (they sum to 1) and in the stack (free in sign)."""
        state = self.state["mixer"]
        pairs = zip(state["hedge"].tolist(), state["stack"].tolist(), strict=True)
        return dict(zip(self.members, pairs, strict=True))

    def grow(self, *, numeric: int, plain: int, classes: int) -> None:
        """Make room; predictions stay as they are, but for target encodings that no longer fit and are left out."""
        old, state = self.layout, self.state
        if old.holds(numeric=numeric, plain=plain, classes=classes):
            return
        classes = max(classes, old.classes)
        new = old.grown(numeric=numeric, plain=plain, classes=classes, targets=old.targets and self._targets(classes))
        state["maps"] = maps.grow(state["maps"], old, new)
        state["linear"] = linear.grow(state["linear"], old, new)
        state["tables"] = tables.grow(state["tables"], new)
        if self._grows:
            state["forest"] = forest.grow(state["forest"], old, new)
        state["mixer"] = mixer.grow(state["mixer"], classes)
        state["replay"] = replay.grow(state["replay"], old, new)
        for i, spec in enumerate(self.nets):
            state[spec.name] = net.grow(spec, state[spec.name], old, new, classes, seed=self._seed(i))
        self.layout = new

    def run(self, chunk: Chunk, operations: Operations, *, rate: float) -> tuple[FloatArray, FloatArray]:
        """Run operations: returns served [K, C] and loss [K], NaN where nothing was."""
        served, loss = np.full((len(chunk), self.layout.classes), np.nan), np.full(len(chunk), np.nan)
        if len(self.state["maps"]["stored"]) == 0 and self._waits(chunk, operations):
            self._remember()
        data = self._rows(chunk)
        for piece in pieces(operations):
            self._run(chunk, data, piece, served, loss, rate=rate)
        return served, loss

    def _run(
        self,
        chunk: Chunk,
        data: maps.MapRows,
        operations: Operations,
        served: FloatArray,
        loss: FloatArray,
        *,
        rate: float,
    ) -> None:
        rows, logp = self._map(data, operations)
        state, label, number = self.state, chunk.label, chunk.number
        first = len(self.members) - len(self.nets)
        if self._counts:
            self._count(data, rows, logp, operations)
        learned = replay.order(operations, label >= 0)
        draws = replay.Draws(self.parts.choose, state["replay"], learned, number, seed=self._seed(1000))
        nothing = np.zeros((len(chunk), 0))  # labels other than classes
        store = state["replay"]
        kept = {
            True: (store["recent"], store["recent_label"], nothing),
            False: (store["sample"], store["sample_label"], nothing),
        }
        for i, spec in enumerate(self.nets):
            chosen = draws.choose(spec.again, spec.window, seed=self._seed(i))
            mine = net.NetRows(rows, label, nothing, nothing, chosen, kept[spec.window > 0])
            self.parts.net(spec, state[spec.name], mine, operations, logp, loss, member=first + i, rate=rate)
        draws.commit(rows, label, np.zeros((0, len(chunk), 0)))
        self.parts.mixer(state["mixer"], logp, label, number, operations, served, loss)

    def forget(self) -> None:
        """Forget the networks' second moments, so that the next steps are as large as the first."""
        for spec in self.nets:
            net.forget(self.state[spec.name])

    def predict(self, chunk: Chunk) -> FloatArray:
        """Serve rows without changing anything: [K, C]."""
        events = len(chunk)
        operations = Operations(np.full(1, PREDICT, dtype=np.int8), np.zeros(1, dtype=np.int64), np.full(1, events))
        served, loss = np.full((events, self.layout.classes), np.nan), np.full(events, np.nan)
        data = self._rows(chunk)
        rows, logp = self._map(data, operations)
        first = len(self.members) - len(self.nets)
        state, label = self.state, chunk.label
        if self._counts:
            self._count(data, rows, logp, operations)
        nothing = np.zeros((events, 0))
        no_rows = (rows[:0], label[:0], nothing[:0])
        for i, spec in enumerate(self.nets):
            mine = net.NetRows(rows, label, nothing, nothing, np.zeros((events, 0), dtype=np.int32), no_rows)
            self.parts.net(spec, state[spec.name], mine, operations, logp, loss, member=first + i, rate=0.0)
        self.parts.mixer(state["mixer"], logp, label, chunk.number, operations, served, loss)
        return served

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        layout = self.layout
        return {
            "layout": [layout.numeric, layout.plain, layout.classes, int(layout.targets)],
            "first": list(self._first),
            "arrays": {part: {name: a.copy() for name, a in arrays.items()} for part, arrays in self.state.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` of a pool with the same preset returned.

        Raises:
            ValueError: the state belongs to another pool.
        """
        arrays, (numeric, plain, classes, targets) = state["arrays"], state["layout"]
        layout = Layout(numeric, plain, classes, bool(targets))
        check_arrays(arrays, self._fresh(layout))
        self.layout = layout
        self.state = {part: {name: np.array(a) for name, a in held.items()} for part, held in arrays.items()}

    def _fresh(self, layout: Layout) -> dict[str, Arrays]:
        """Return the state of a pool of these sizes that has seen nothing."""
        sample = any(spec.again and not spec.window for spec in self.nets)
        states = {
            "maps": maps.init(layout, 0),
            "linear": linear.init(layout),
            "tables": tables.init(layout, 0),
            "mixer": mixer.init(len(self.members), layout.classes, 0),
            "replay": replay.init(layout.width, values=0, outputs=0, sample=sample),
        }
        if self._grows:
            states["forest"] = forest.init(layout)
        for i, spec in enumerate(self.nets):
            states[spec.name] = net.init(spec, layout, layout.classes, seed=self._seed(i))
        return states

    def _rows(self, chunk: Chunk) -> maps.MapRows:
        """Make room for what the maps say of each row."""
        layout, events = self.layout, len(chunk)
        rows = np.zeros((events, layout.width), dtype=np.float32)
        rank = np.full((events, layout.numeric), np.nan, dtype=np.float32)
        logp = np.full((events, max(len(self.members), len(maps.MEMBERS)), layout.classes), mixer.FLOOR)
        x, plain = widened(chunk.x, layout.numeric), widened(chunk.plain, layout.plain)
        return maps.MapRows(x, plain, chunk.label, chunk.number, rows, rank, logp)

    def _map(self, data: maps.MapRows, operations: Operations) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """Run the maps: feature rows [K, D] and log-probabilities [K, M, C] with their members filled."""
        self.parts.maps(self.state["maps"], self.layout, data, operations)
        if self._counts:
            return data.row, data.logp
        return data.row, np.full((len(data.row), len(self.members), self.layout.classes), mixer.FLOOR)

    def _count(
        self, data: maps.MapRows, rows: npt.NDArray[np.float32], logp: FloatArray, operations: Operations
    ) -> None:
        """Run the members between the maps and the networks."""
        state, at = self.state, len(maps.MEMBERS)
        self.parts.linear(state["linear"], self.layout, rows, data.label, logp, operations, first=at)
        at += len(linear.MEMBERS)
        self.parts.tables(state["tables"], data.x, data.label, data.number, logp, operations, first=at)
        if self._grows:
            at += len(tables.MEMBERS)
            self.parts.forest(
                state["forest"],
                self.layout,
                data.plain,
                data.x,
                data.label,
                logp,
                operations,
                first=at,
                seed=self._seed(1001),
            )

    def _remember(self) -> None:
        """Make room for events that wait for labels."""
        state, layout = self.state, self.layout
        fresh = maps.init(layout, PENDING)
        for name in ("stored", "stored_row", "stored_rank"):
            state["maps"][name] = fresh[name]
        fresh = tables.init(layout, PENDING)
        for name in ("stored", "stored_last"):
            state["tables"][name] = fresh[name]
        fresh = mixer.init(len(self.members), layout.classes, PENDING)
        for name in ("stored", "stored_logp"):
            state["mixer"][name] = fresh[name]

    def _waits(self, chunk: Chunk, operations: Operations) -> bool:
        return bool((operations.kind == Kind.PREDICT_OBSERVE).any() or (chunk.label < 0).any())

    def _targets(self, classes: int) -> bool:
        numeric = self._first[0]
        return numeric * (1 if classes == 2 else classes) <= TARGET_COLUMNS

    def _seed(self, member: int) -> int:
        return self.seed * 1009 + member


PREDICT = 3  # as in common.c: serve, and change nothing
PIECE = 1024


def pieces(operations: Operations) -> list[Operations]:
    """Cut operations so that no event is forgotten in a piece in which it was served: that would change its row."""
    if len(operations) <= PIECE and len(operations) == (operations.stop - operations.start).sum():
        return [operations]
    number = np.cumsum(operations.stop - operations.start) // PIECE
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(operations)]
    at = [slice(a, b) for a, b in pairwise(cuts)]
    return [Operations(operations.kind[s], operations.start[s], operations.stop[s]) for s in at]


def check_parts(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a state with other parts.

    Raises:
        ValueError: the parts differ; the message names them.
    """
    if found.keys() != expected.keys():
        raise ValueError(
            f"the state has the parts {', '.join(sorted(found))}, this pool has {', '.join(sorted(expected))};"
            " use the preset that wrote it, or start afresh in another folder"
        )


def check_arrays(found: Mapping[str, Arrays], expected: Mapping[str, Arrays]) -> None:
    """Refuse parts of another version: in C arrays would be read beyond their ends.

    Args:
        found: part -> arrays of the state.
        expected: the same of a pool of the same sizes that has seen nothing.

    Raises:
        ValueError: parts, or names or shapes of their arrays differ. What waits for labels (`stored*`) has room or none.
    """
    check_parts(found, expected)
    other = [part for part, arrays in expected.items() if _shapes(found[part]) != _shapes(arrays)]
    if other:
        raise ValueError(
            f"the state's {', '.join(other)} are not those of this version; use the version that wrote it,"
            " or start afresh in another folder"
        )


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: a.shape[1:] if name.startswith("stored") else a.shape for name, a in arrays.items()}


def widened(x: FloatArray, columns: int) -> FloatArray:
    """Give x [K, F'] so many columns; new ones are missing."""
    if x.shape[1] == columns:
        return np.ascontiguousarray(x)
    wide = np.full((len(x), columns), np.nan)
    wide[:, : x.shape[1]] = x
    return wide
