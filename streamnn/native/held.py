"""A state that lies in one block of memory, as compiled code has it.

Its tensors are looks at the block, some sixty of them, which take longer to make than a small network takes to learn a
hundred events: they are made when they are first asked for. Where nobody has asked, the block is free for another state as
soon as this one is gone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

Names = Mapping[str, Sequence[str]]


class HeldState(Mapping[str, dict[str, Tensor]]):
    """A state (part -> name -> tensor), see `streamnn.step`.

    Args:
        block: where it lies; it is not written to any more.
        names: of the tensors of each part, in the order of `unpack`.
        unpack: makes the tensors.
        free: blocks that may be written to again; this one joins them at its end.
    """

    def __init__(
        self, block: Tensor, names: Names, unpack: Callable[[Tensor], list[Tensor]], free: list[Tensor]
    ) -> None:
        self.block, self.free = block, free
        self._names, self._unpack = names, unpack
        self._tensors: dict[str, dict[str, Tensor]] | None = None

    def __getitem__(self, part: str) -> dict[str, Tensor]:
        return self._look()[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __del__(self) -> None:
        if self._tensors is None:  # else there may be a tensor somewhere that looks at the block
            self.free.append(self.block)

    def _look(self) -> dict[str, dict[str, Tensor]]:
        if self._tensors is None:
            leaves = iter(self._unpack(self.block))
            self._tensors = {part: {name: next(leaves) for name in listed} for part, listed in self._names.items()}
        return self._tensors
