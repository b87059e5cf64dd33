"""Growth: a tensor's old entries move into a larger one, and nothing that was learned changes.

`index` tells, for each dimension that grows, where the old positions lie in the new tensor.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Index = Mapping[int, Sequence[int]]


def embed(old: Tensor, fresh: Tensor, index: Index) -> Tensor:
    """Copy `old` into a copy of `fresh`, which holds the start values of what is new.

    Args:
        old: any shape.
        fresh: same number of dimensions; a dimension that is not in `index`, or that has size 1 in both (a count
            shared along it), has the same size.
        index: dimension -> position in `fresh` of each old position.

    Raises:
        ValueError: the shapes do not fit the index.
    """
    places = []
    for dim in range(old.dim()):
        size = old.shape[dim]
        if dim in index and not size == fresh.shape[dim] == 1:
            if len(index[dim]) != size:
                raise ValueError(f"dimension {dim} has {size} old entries, but {len(index[dim])} places are given")
            places.append(torch.tensor(index[dim], dtype=torch.int64))
        elif size == fresh.shape[dim]:
            places.append(torch.arange(size))
        else:
            raise ValueError(f"dimension {dim} grows from {size} to {fresh.shape[dim]}, but no places are given")
    new = fresh.clone()
    if not places:
        return new.copy_(old)
    new[torch.meshgrid(*places, indexing="ij")] = old
    return new
