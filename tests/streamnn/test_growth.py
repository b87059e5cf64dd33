"""Embedding old entries into larger tensors."""

import pytest
import torch

from streamnn.growth import embed


def test_old_entries_move_and_new_ones_keep_their_start_values():
    """Rows go where the index says, columns to the front, and the rest is as in the fresh tensor."""
    old = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    got = embed(old, torch.full((3, 4), -1.0), {0: [0, 2], 1: range(2)})
    assert got.tolist() == [[1, 2, -1, -1], [-1, -1, -1, -1], [3, 4, -1, -1]]


def test_shared_dimension_of_size_one_stays_shared():
    """A count that is shared along a dimension keeps being shared."""
    got = embed(torch.tensor([[5.0, 6.0]]), torch.zeros(1, 4), {0: [0, 2], 1: range(2)})
    assert got.tolist() == [[5, 6, 0, 0]]


def test_scalars_are_copied():
    """A tensor without dimensions is replaced."""
    assert embed(torch.tensor(3), torch.tensor(0), {}).item() == 3


def test_growth_without_places_is_an_error():
    """A dimension that changes must be in the index, with a place for each entry."""
    with pytest.raises(ValueError, match="dimension 0 grows from 2 to 3"):
        embed(torch.zeros(2), torch.zeros(3), {})
    with pytest.raises(ValueError, match="2 old entries, but 1 places"):
        embed(torch.zeros(2), torch.zeros(3), {0: [0]})
