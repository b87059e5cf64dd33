"""What predicting and learning mean, written once: four pure functions of (state, event).

    predict(state, event)       -> served            changes nothing at all
    observe(state, event)       -> state             input statistics move
    learn(state, event)         -> state, loss       weights, layer statistics, optimizer and label statistics move
    predict_learn(state, event) -> state, served, loss    predict, learn from the same standardised inputs, observe

Every choice on values is a `torch.where`, every shape is static and everything a step depends on is in the state or in
the event; so a step can be run as it is, or traced once and compiled.

The state is a nested dict of tensors: `params`, `buffers` (of layers), `optimizer` (slot -> parameter), `inputs`
(standardiser), `head`, `pending` (accumulated gradients, where more than one micro-batch makes an update).

Axes: B samples (1 in sample mode), F input capacity, W head width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from streamnn.backward import differentiate, evaluate
from streamnn.context import Context
from streamnn.features.standardizer import Standardizer
from streamnn.heads import Head
from streamnn.networks import MLP
from streamnn.optimizers import Optimizer

Tensors = dict[str, Tensor]
State = Mapping[str, Tensors]


@dataclass(frozen=True, slots=True)
class Event:
    """B events as tensors (B = 1 in sample mode).

    Attributes:
        x: [B, F] float64, raw inputs; NaN = missing or absent.
        y: [B, W] float64, labels as the head lays them out; NaN = unknown.
        valid: [B] bool; False for rows that only pad the batch.
        number: [B] int64, event numbers from 0; random draws are keyed by them.
        plain: [F] bool; inputs that are used as they are (0/1 of a category) instead of standardised.
        rate: [] the learning rate.
        clear: [] bool; the optimizer forgets its second moments before this step.
    """

    x: Tensor
    y: Tensor
    valid: Tensor
    number: Tensor
    plain: Tensor
    rate: Tensor
    clear: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """The four operations for one network, head and optimizer. `accumulate` micro-batches make one update."""

    network: MLP
    head: Head
    optimizer: Optimizer
    standardizer: Standardizer
    dtype: torch.dtype
    accumulate: int = 1

    def init(self, params: Tensors, buffers: Tensors, inputs: int) -> State:
        """Return the state of a learner that has seen nothing."""
        return {
            "params": params,
            "buffers": buffers,
            **{f"optimizer.{slot}": tensors for slot, tensors in self.init_optimizer(params).items()},
            "inputs": self.standardizer.init(inputs),
            "head": self.head.init(self.dtype),
            "pending": self._no_gradients(params),
        }

    def init_optimizer(self, params: Tensors) -> dict[str, Tensors]:
        """Return the optimizer's first state, with step counts of their own for weights that can be added later."""
        growing = {name: tuple(sorted(dims)) for name, dims in self.network.growing.items()}
        return self.optimizer.init(params, growing=growing)

    def predict(self, state: State, event: Event) -> Tensor:
        """Serve the events: [B, W] float64, see `Head.serve`."""
        outputs = self._evaluate(state, event, self._standardize(state, event, own=True))
        return self.head.serve(state["head"], outputs)

    def observe(self, state: State, event: Event) -> State:
        """Count the events' inputs into the input statistics."""
        return {**state, "inputs": self.standardizer.observe(state["inputs"], _counted(event), event.valid)}

    def learn(self, state: State, event: Event) -> tuple[State, Tensor]:
        """Learn events that were observed before. Returns the new state and each row's loss before learning, [B]."""
        state, loss, _ = self._learn(state, event, self._standardize(state, event, own=False))
        return state, loss

    def predict_learn(self, state: State, event: Event) -> tuple[State, Tensor, Tensor]:
        """Predict, learn and observe. Returns the new state, what was served [B, W], and the losses [B]."""
        z = self._standardize(state, event, own=True)
        # the two passes agree unless a layer behaves differently in training, so one serves for both
        served_by = self._evaluate(state, event, z) if self.network.training_differs else None
        new, loss, outputs = self._learn(state, event, z)
        served = self.head.serve(state["head"], outputs if served_by is None else served_by)
        return self.observe(new, event), served, loss

    def _standardize(self, state: State, event: Event, *, own: bool) -> Tensor:
        z = self.standardizer.transform(state["inputs"], _counted(event), own=own)
        as_is = torch.where(torch.isnan(event.x), 0.0, event.x)
        return torch.where(event.plain, as_is, z).to(self.dtype)

    def _evaluate(self, state: State, event: Event, z: Tensor) -> Tensor:
        never = torch.zeros((), dtype=torch.bool)
        context = Context(training=False, valid=event.valid, number=event.number, updated=never)
        return evaluate(self.network, state["params"], state["buffers"], z, context)

    def _learn(self, state: State, event: Event, z: Tensor) -> tuple[State, Tensor, Tensor]:
        head, pending = state["head"], state["pending"]
        # a row without any label is not learned: as in sample mode, it counts in no statistic but the inputs'
        learned = self.head.known(event.y, event.valid).any(-1)
        kept: dict[str, Tensors] = {}

        def objective(outputs: Tensor) -> Tensor:
            # classes and target statistics take in these labels first; that is where a new class gets its logit
            labelled = self.head.observe(head, outputs.detach(), event.y, event.valid)
            losses = self.head.loss(labelled, outputs, event.y, event.valid)
            kept.update(head=labelled, losses={"each": losses.detach()})
            return losses.sum() / learned.sum().clamp(min=1)

        # known beforehand, where every micro-batch makes an update: then a compiled step does without the counts
        updated = torch.ones((), dtype=torch.bool) if self.accumulate == 1 else pending["count"] == 0
        context = Context(training=True, valid=learned, number=event.number, updated=updated)
        outputs, _, grads, buffers = differentiate(
            self.network, state["params"], state["buffers"], z, context, objective
        )
        slots = {name.partition(".")[2]: t for name, t in state.items() if name.startswith("optimizer.")}
        slots = self.optimizer.clear(slots, event.clear)
        if self.accumulate > 1:
            total = {name: pending[name] + g for name, g in grads.items()}
            count = pending["count"] + 1
            due = count >= self.accumulate
            mean = {name: g / count.to(g.dtype) for name, g in total.items()}
            stepped, moved = self.optimizer.update(mean, slots, state["params"], event.rate)
            params = {name: torch.where(due, stepped[name], p) for name, p in state["params"].items()}
            slots = {
                slot: {name: torch.where(due, moved[slot][name], t) for name, t in tensors.items()}
                for slot, tensors in slots.items()
            }
            pending = {name: torch.where(due, 0.0, g) for name, g in total.items()}
            pending["count"] = torch.where(due, 0, count)
        else:
            params, slots = self.optimizer.update(grads, slots, state["params"], event.rate)
        new = {
            **state,
            "params": params,
            "buffers": buffers,
            **{f"optimizer.{slot}": tensors for slot, tensors in slots.items()},
            "head": kept["head"],
            "pending": pending,
        }
        return new, kept["losses"]["each"], outputs

    def _no_gradients(self, params: Tensors) -> Tensors:
        count = {"count": torch.zeros((), dtype=torch.int64)}
        return count if self.accumulate == 1 else {**{name: torch.zeros_like(p) for name, p in params.items()}, **count}


def _counted(event: Event) -> Tensor:
    """Return the inputs that have statistics, [B, F]: the 0/1 of a category is used as it is and has none."""
    return torch.where(event.plain, torch.nan, event.x)
