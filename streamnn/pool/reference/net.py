"""The network of `streamnn.pool.net`, one step at a time; single precision, as the C.

Axes: K rows, B rows of a step, D inputs, H = 64 units, C outputs.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays
from streamnn.pool.net import Loss, NetRows, NetSpec
from streamnn.pool.reference.common import PREDICT, Vector, log_softmax
from streamnn.pool.replay import NONE

SKIP, EPSILON = np.float32(0.3), np.float32(1e-16)
Single = npt.NDArray[np.float32]


def run(
    spec: NetSpec,
    state: Arrays,
    data: NetRows,
    operations: Operations,
    out: Vector,
    loss: Vector,
    *,
    member: int,
    rate: float,
    objective: Loss = "classes",
) -> None:
    """Run operations: fill one member of `out` [K, M, C] and `loss` [K], and learn in place."""
    values, classes = objective in ("huber", "absolute"), objective == "classes"
    net = _Net(spec, state, objective, np.float32(rate * spec.rate))
    kept_rows, kept_label, kept_y = data.kept
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        group = list(range(start, stop))
        if kind != Kind.LEARN:
            for r in group:
                raw = net.forward(data.rows[r])[0]
                out[r, member] = log_softmax(raw, state["active"]) if objective == "classes" else raw
        if kind in (Kind.PREDICT_OBSERVE, PREDICT):
            continue
        known = [r for r in group if _has_label(data, r, objective)]
        if not known:
            continue
        wanted = {r: _scaled(data.y[r], data.units[r]) if values else data.y[r] for r in known}
        events = [(data.rows[r], int(data.label[r]), wanted[r]) for r in known]
        loss[known] = net.learn(events, count=True)
        for i in range(spec.again):
            drawn = [int(data.draws[r, i]) for r in group if data.draws[r, i] != NONE]
            events = [
                (data.rows[at], int(data.label[at]), data.y[at])
                if at >= 0
                # a store of classes keeps no values
                else (kept_rows[-1 - at], int(kept_label[-1 - at]), data.y[start] if classes else kept_y[-1 - at])
                for at in drawn
            ]
            if values:  # an old value is learned in today's units
                events = [(row, label, _scaled(y, data.units[start])) for row, label, y in events]
            if events:
                net.learn(events, count=False)


def _has_label(data: NetRows, row: int, objective: Loss) -> bool:
    if objective == "classes":
        return bool(data.label[row] >= 0)
    scaled = objective == "labels" or data.units[row, 1] > 0
    return bool(scaled and (~np.isnan(data.y[row])).any())


def _scaled(y: Vector, units: Vector) -> Vector:
    scaled: Vector = np.clip((y - units[0]) / units[1], -10, 10)
    return scaled


class _Net:
    def __init__(self, spec: NetSpec, state: Arrays, objective: Loss, rate: np.float32) -> None:
        self.s, self.objective, self.rate, self.beta2 = state, objective, rate, spec.beta2
        self.inputs = len(state["left_in"])

    def forward(self, row: Single) -> tuple[Vector, Single, Single, np.float32]:
        """Return the outputs [C], the units [H], what was normalised [H] and 1 / deviation."""
        s, x = self.s, row[: self.inputs]
        a = s["b0"] + x @ s["w0"]
        a = a - a.mean(dtype=np.float32)
        spread = np.float32(1) / np.sqrt((a * a).mean(dtype=np.float32) + np.float32(1e-5))
        normal = a * spread
        units = np.maximum(normal, np.float32(0))
        out = s["bo"] + s["wo"] @ units + SKIP * (s["ws"] @ x)
        return out.astype(np.float64), units, normal, spread

    def learn(self, events: list[tuple[Single, int, Vector]], *, count: bool) -> list[float]:
        """Make one step on the mean gradient of B events; returns their losses."""
        s = self.s
        grads = {name: np.zeros_like(s[name]) for name in ("w0", "b0", "wo", "bo", "ws")}
        passes = [self.forward(row) for row, _, _ in events]
        if count and self.objective == "classes":
            for i, (_, label, _) in enumerate(events):
                was = bool(s["active"][label])
                self._count(passes[i][0], label)
                for raw, *_ in passes if not was else []:
                    raw[label] += s["bo"][label]
        losses, part = [], np.float32(1 / len(events))
        for (row, label, y), (raw, units, normal, spread) in zip(events, passes, strict=True):
            x = row[: self.inputs]
            g, loss = self._slope(raw, label, y)
            losses.append(loss)
            d = np.where(normal > 0, g @ s["wo"], np.float32(0))
            d = part * spread * (d - d.mean(dtype=np.float32) - normal * (d * normal).mean(dtype=np.float32))
            grads["w0"] += np.outer(x, d)
            grads["b0"] += d
            grads["wo"] += part * np.outer(g, units)
            grads["bo"] += part * g
            grads["ws"] += SKIP * part * np.outer(g, x)
        self._step(grads, np.any([row[: self.inputs] != 0 for row, _, _ in events], axis=0))
        return losses

    def _step(self, grads: Arrays, some: npt.NDArray[np.bool_]) -> None:
        """Adam with beta1 = 0; an entry is corrected for the steps it has taken itself."""
        s, keep = self.s, np.float32(self.beta2)
        exists = s["active"] > 0 if self.objective == "classes" else np.ones(len(s["bo"]), dtype=bool)
        counted = some | (s["left_in"] < 1)  # steps of an input are counted from its first value on
        s["left_in"][counted] *= self.beta2
        s["left_unit"] *= self.beta2
        s["left_out"][exists] *= self.beta2
        with np.errstate(divide="ignore"):
            by_in, by_unit, by_out = ((1 / (1 - s[f"left_{x}"])).astype(np.float32) for x in ("in", "unit", "out"))
        by_in[~counted] = 1
        correct = {
            "w0": by_in[:, None],
            "b0": by_unit,
            "wo": by_out[:, None],
            "bo": by_out,
            "ws": np.maximum(by_in[None], by_out[:, None]),
        }
        for name, moment in (("w0", "v0"), ("b0", "vb0"), ("wo", "vo"), ("bo", "vbo"), ("ws", "vs")):
            g, rows = grads[name], exists if name in ("wo", "bo", "ws") else slice(None)
            v = keep * s[moment] + (1 - keep) * (g * g)
            s[moment][rows] = v[rows]
            by = np.broadcast_to(correct[name], v.shape)[rows]
            s[name][rows] -= (self.rate * g)[rows] / np.sqrt(v[rows] * by + EPSILON)

    def _slope(self, raw: Vector, label: int, y: Vector) -> tuple[Single, float]:
        """Gradient of the loss with respect to the outputs [C], and the loss."""
        if self.objective == "classes":
            active = self.s["active"]
            logp = log_softmax(raw, active)
            g = np.where(active > 0, np.exp(logp), 0.0)
            g[label] -= 1
            return g.astype(np.float32), float(-logp[label])
        known = ~np.isnan(y)
        error = raw - y
        if self.objective == "labels":
            g = 1 / (1 + np.exp(-raw)) - y
            each = np.logaddexp(0, raw) - raw * y
        elif self.objective == "huber":
            g = np.clip(error, -1, 1)
            each = np.where(np.abs(error) < 1, 0.5 * error * error, np.abs(error) - 0.5)
        else:
            g, each = np.sign(error), np.abs(error)
        loss = float(each[known].mean()) if known.any() else 0.0
        return np.where(known, g / max(known.sum(), 1), 0.0).astype(np.float32), loss

    def _count(self, raw: Vector, label: int) -> None:
        """Count a label; a class that is new enters at probability max(.01, 1 / (labels + 2)) on an average event."""
        s = self.s
        exists, labels, level = s["active"] > 0, int(s["count"][0]), float(s["level"][0])
        if exists.any():
            top = raw[exists].max()
            here = top + np.log(np.exp(raw[exists] - top).sum())
            s["level"][0] += max(1 / (labels + 1), 0.01) * (here - level)
        if not exists[label]:
            p = max(1 / (labels + 2), 0.01)
            if exists.any():
                s["bo"][label] = level + np.log(p / (1 - p))
            s["active"][label] = 1
        s["count"][0] += 1
