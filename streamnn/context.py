"""What a layer may know of the pass it takes part in, besides its input.

A pass is one forward call of a network. The step makes a fresh `Context` for each and hands it to every layer, so
that no layer keeps hidden state and two learners in two threads never meet.

Axes: B samples (1 in sample mode), H units.
"""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(slots=True)
class Context:
    """One pass through a network.

    Attributes:
        training: True in the pass that is learned from. A static choice: each kind of pass is traced on its own.
        valid: [B] bool; False marks a row that only pads the batch. It counts in no statistic.
        number: [B] int64; the number of each event, counted from 0. Random draws depend on (seed, number) alone.
        updated: () bool; the weights have changed since the previous training pass. This is the explicit step
            notification that streaming normalisation needs: it is True at every pass unless gradients are accumulated.
        penalties: scalars added to the loss. A layer that wants to change a gradient appends an expression whose value
            is 0 and whose derivative is the change.
    """

    training: bool
    valid: Tensor
    number: Tensor
    updated: Tensor
    penalties: list[Tensor] = field(default_factory=list)
