"""What the network's outputs mean: probabilities, values, the loss against a label, and which classes exist.

One head serves every task, because a task is a list of targets, each binary, multi-class or regression: one binary
target is binary classification, several are multi-label; several multi-class ones are multi-output; any mixture is
allowed. The targets' outputs lie side by side on one axis, binary ones first, then regression, then one block of
`capacity` logits for each multi-class target.

Axes: B samples, T targets, W = head width (outputs of the network), C = capacity of one multi-class target.
Labels are y [B, W] float64: 0..1 for a binary target, the value for regression, a distribution over the block for a
multi-class target (one-hot, or soft). NaN means unknown; an unknown target adds nothing to the loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as fn

from streamnn.features.standardizer import Standardizer

Tensors = dict[str, Tensor]
TargetKind = Literal["binary", "multiclass", "regression"]
RegressionLoss = Literal["huber", "squared", "absolute"]

ABSENT = -1e30  # the logit of a class that does not exist yet: finite, so that no gradient becomes NaN


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One thing to predict. `kind` says how its label is read."""

    name: str
    kind: TargetKind

    def __post_init__(self) -> None:
        if self.kind not in ("binary", "multiclass", "regression"):
            raise ValueError(f"target {self.name!r} has kind {self.kind!r}; use binary, multiclass or regression")


@dataclass(frozen=True, slots=True)
class Block:
    """Where a target's outputs lie: [first, first + width) on the head's axis."""

    target: TargetSpec
    first: int
    width: int

    @property
    def columns(self) -> slice:
        """The block as a slice of the head's axis."""
        return slice(self.first, self.first + self.width)


class Head:
    """Losses, served outputs and label statistics for a list of targets, as pure functions of the head's state.

    State: `labels` [T] int64, labels seen per target; `active` [W] bool, which classes exist; `entry` [W], the logit
    offset at which a class entered; `level` [T], running mean of log sum exp of a multi-class target's logits; for
    regression `target_count`, `target_mean`, `target_var` [R].

    A class (of a multi-class target, or the positive one of a binary target) exists from the first label that names it:
    the same step that learns this label activates it. With p = max(class_prior, 1 / (labels seen + 2)) its logit starts
    at log(p / (1 - p)), above the level of the others in a multi-class target: at probability p on an average event.
    All other logits stay as they were.

    Regression outputs are learned in units of the running deviation of the target (`Standardizer`, which counts the
    label at hand), and served in its own units.
    """

    def __init__(
        self,
        targets: Sequence[TargetSpec],
        capacities: Mapping[str, int] | None = None,
        *,
        class_prior: float = 0.01,
        regression_loss: RegressionLoss = "huber",
        standardizer: Standardizer | None = None,
    ) -> None:
        if not targets:
            raise ValueError("a head needs at least one target")
        if len({t.name for t in targets}) < len(targets):
            raise ValueError(f"target names must differ, got {[t.name for t in targets]}")
        if not 0 < class_prior < 1:
            raise ValueError(f"class_prior is {class_prior}, but must be a probability between 0 and 1")
        if regression_loss not in ("huber", "squared", "absolute"):
            raise ValueError(f"regression_loss is {regression_loss!r}; use huber, squared or absolute")
        self.targets = tuple(targets)
        self.class_prior = class_prior
        self.regression_loss = regression_loss
        self.standardizer = standardizer or Standardizer(clip=10.0)
        ordered = [t for kind in ("binary", "regression", "multiclass") for t in targets if t.kind == kind]
        blocks, first = [], 0
        for target in ordered:
            width = (capacities or {}).get(target.name, 2) if target.kind == "multiclass" else 1
            blocks.append(Block(target, first, width))
            first += width
        self.blocks = tuple(blocks)
        self.width = first
        self.binaries = sum(t.kind == "binary" for t in targets)
        self.regressions = sum(t.kind == "regression" for t in targets)

    def block(self, target: str) -> Block:
        """Find a target's block by name."""
        return next(b for b in self.blocks if b.target.name == target)

    def grown(self, capacities: Mapping[str, int]) -> "Head":
        """Return the same head with other capacities of its multi-class targets."""
        return Head(
            self.targets,
            capacities,
            class_prior=self.class_prior,
            regression_loss=self.regression_loss,
            standardizer=self.standardizer,
        )

    def positions(self, larger: "Head") -> list[int]:
        """Tell where each of this head's outputs lies in a larger head of the same targets."""
        return [larger.block(b.target.name).first + i for b in self.blocks for i in range(b.width)]

    def init(self, dtype: torch.dtype) -> Tensors:
        """Return the state of a head that has seen no label."""
        position = torch.arange(self.width)
        value = (position >= self.binaries) & (position < self.binaries + self.regressions)
        statistics = self.standardizer.init(self.regressions)
        return {
            "labels": torch.zeros(len(self.blocks), dtype=torch.int64),
            "active": value,
            "entry": torch.zeros(self.width, dtype=dtype),
            "level": torch.zeros(len(self.blocks), dtype=dtype),
            **{f"target_{name}": t for name, t in statistics.items()},
        }

    def logits(self, state: Tensors, outputs: Tensor) -> Tensor:
        """Add the entry offsets and put classes that do not exist out of reach: [B, W] -> [B, W]."""
        return torch.where(state["active"], outputs + state["entry"], ABSENT)

    def serve(self, state: Tensors, outputs: Tensor) -> Tensor:
        """Turn network outputs [B, W] into what is served: probabilities and values in the target's own units, [B, W].

        The probability of a class that does not exist is 0. A target whose label was never seen is served as NaN.
        """
        logits = self.logits(state, outputs)
        parts = []
        if self.binaries:
            some = state["labels"][: self.binaries] > 0
            parts.append(torch.where(some, torch.sigmoid(logits[:, : self.binaries]).double(), torch.nan))
        if self.regressions:
            values = logits[:, self.binaries : self.binaries + self.regressions].double()
            values = state["target_mean"] + values * self._deviation(state)
            parts.append(torch.where(state["target_count"] > 0, values, torch.nan))
        for i, block in self._multiclass():
            probabilities = torch.softmax(logits[:, block.columns], dim=-1)
            exists = torch.where(state["active"][block.columns], probabilities.double(), 0.0)
            parts.append(torch.where(state["labels"][i] > 0, exists, torch.nan))
        return torch.cat(parts, dim=-1)

    def observe(self, state: Tensors, outputs: Tensor, y: Tensor, valid: Tensor) -> Tensors:
        """Count labels [B, W]: activate classes, move target statistics. `outputs` are from before learning."""
        known = self.known(y, valid)
        new = dict(state)
        new["labels"] = state["labels"] + known.sum(0)
        if self.regressions:
            values = y[:, self.binaries : self.binaries + self.regressions]
            statistics = {name: state[f"target_{name}"] for name in ("count", "mean", "var")}
            for name, t in self.standardizer.observe(statistics, values, valid).items():
                new[f"target_{name}"] = t
        logits = self.logits(state, outputs)
        b, plain = self.binaries, self.binaries + self.regressions
        was = state["active"][:b]
        appears = (torch.where(known[:, :b], y[:, :b], 0.0) > 0).any(0) & ~was
        start = self._log_odds(state["labels"][:b], outputs.dtype)
        active = [was | appears, state["active"][b:plain]]
        entry = [torch.where(appears, start, state["entry"][:b]), state["entry"][b:plain]]
        level = [state["level"][:plain]]
        for i, block in self._multiclass():
            seen, was = known[:, i], state["active"][block.columns]
            labels = torch.where(seen[:, None], y[:, block.columns], 0.0)
            appears = (labels > 0).any(0) & ~was
            count = state["labels"][i].to(outputs.dtype)
            start = torch.where(was.any(), state["level"][i] + self._log_odds(state["labels"][i], outputs.dtype), 0.0)
            active.append(was | appears)
            entry.append(torch.where(appears, start, state["entry"][block.columns]))
            here = torch.logsumexp(logits[:, block.columns], dim=-1)
            rows = seen.sum().to(count.dtype)
            mean = torch.where(seen, here, 0.0).sum() / rows.clamp(min=1)
            w = torch.clamp(rows / (count + rows).clamp(min=1), min=0.01) * ((rows > 0) & was.any())
            level.append((state["level"][i] + w * (mean - state["level"][i]))[None])
        new["active"], new["entry"], new["level"] = torch.cat(active), torch.cat(entry), torch.cat(level)
        return new

    def known(self, y: Tensor, valid: Tensor) -> Tensor:
        """Tell which targets of which rows have a label: [B, T] bool, targets in the order of `blocks`."""
        plain = self.binaries + self.regressions
        firsts = [y[:, :plain], *(y[:, b.first : b.first + 1] for _, b in self._multiclass())]
        return ~torch.isnan(torch.cat(firsts, dim=-1)) & valid[:, None]

    def loss(self, state: Tensors, outputs: Tensor, y: Tensor, valid: Tensor) -> Tensor:
        """Compute each row's loss, the mean over its known targets: [B]; 0 for a row without labels.

        Cross-entropy for classes (of soft labels too), Huber, squared or absolute error in deviations for regression.
        """
        known = self.known(y, valid)
        logits = self.logits(state, outputs)
        clean = torch.where(torch.isnan(y), 0.0, y)
        parts = []
        if self.binaries:
            part = slice(0, self.binaries)
            parts.append(
                fn.binary_cross_entropy_with_logits(logits[:, part], clean[:, part].to(logits.dtype), reduction="none")
            )
        if self.regressions:
            part = slice(self.binaries, self.binaries + self.regressions)
            statistics = {name: state[f"target_{name}"] for name in ("count", "mean", "var")}
            wanted = self.standardizer.transform(statistics, y[:, part], own=False)
            parts.append(self._regression_loss(logits[:, part], wanted.to(logits.dtype)))
        for _, block in self._multiclass():
            log_p = torch.log_softmax(logits[:, block.columns], dim=-1)
            # a class that does not exist has weight 0 and a log-probability of about -1e30: leave the product out
            weight = clean[:, block.columns].to(log_p.dtype)
            parts.append(-torch.where(weight > 0, weight * log_p, 0.0).sum(-1, keepdim=True))
        each = torch.where(known, torch.cat(parts, dim=-1), 0.0)
        return each.sum(-1) / known.sum(-1).clamp(min=1)

    def _multiclass(self) -> list[tuple[int, Block]]:
        return [(i, b) for i, b in enumerate(self.blocks) if b.target.kind == "multiclass"]

    def _log_odds(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """The log-odds at which a class enters after so many labels without it."""
        p = torch.clamp(1 / (labels.to(dtype) + 2), min=self.class_prior)
        return torch.log(p / (1 - p))

    def _deviation(self, state: Tensors) -> Tensor:
        return torch.where(state["target_var"] > 0, torch.sqrt(state["target_var"]), 1.0)

    def _regression_loss(self, got: Tensor, wanted: Tensor) -> Tensor:
        if self.regression_loss == "squared":
            return 0.5 * (got - wanted) ** 2
        if self.regression_loss == "absolute":
            return (got - wanted).abs()
        error = (got - wanted).abs()
        return torch.where(error < 1, 0.5 * error * error, error - 0.5)
