"""Equal records of several tensors in one piece of memory, so that any run of them moves in one copy.

Axes: N records, and of each the axes of its fields.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from streamnn.flat import Field

ALIGN = 64  # bytes; vector loads of every type find their fields aligned


class Records:
    """N records with the same fields, all zero at first.

    Args:
        fields: shape and type of each.
        count: N.
        device: where the memory is.
        pinned: page-locked memory of the host, which copies to and from a device run beside everything else.
    """

    def __init__(self, fields: Sequence[Field], count: int, *, device: torch.device, pinned: bool = False) -> None:
        # floating types first, each type's fields side by side: `floating` looks at them at once
        order = sorted(range(len(fields)), key=lambda i: (not fields[i][1].is_floating_point, str(fields[i][1])))
        self._starts, end = [0] * len(fields), 0
        for i in order:
            shape, dtype = fields[i]
            self._starts[i] = end
            end += -(-math.prod(shape) * dtype.itemsize // ALIGN) * ALIGN
        self._fields, self._order = list(fields), order
        self.memory = torch.zeros((count, max(end, ALIGN)), dtype=torch.uint8, device=device, pin_memory=pinned)
        self.tensors = self.look(self.memory)

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self.memory.shape[1]

    def __len__(self) -> int:
        return self.memory.shape[0]

    def floating(self) -> list[Tensor]:
        """Look at all fields of a floating type as one tensor [N, n], for each type; between them lie zeros."""
        found = []
        for dtype in (torch.float32, torch.float64):
            own = [i for i in self._order if self._fields[i][1] == dtype]
            if own:
                shape, _ = self._fields[own[-1]]
                stop = self._starts[own[-1]] + math.prod(shape) * dtype.itemsize
                found.append(self.memory[:, self._starts[own[0]] : stop].view(dtype))
        return found

    def look(self, memory: Tensor) -> list[Tensor]:
        """Look at memory of the same size: the fields, each [N, ...]."""
        size = memory.shape[1]
        whole = {dtype: memory.view(-1).view(dtype) for dtype in {dtype for _, dtype in self._fields}}
        looks = []
        for (shape, dtype), start in zip(self._fields, self._starts, strict=True):
            strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
            width = dtype.itemsize
            looks.append(whole[dtype].as_strided((memory.shape[0], *shape), (size // width, *strides), start // width))
        return looks
