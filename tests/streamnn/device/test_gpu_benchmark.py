"""The benchmark of micro-batches on a card prints its table; without a card its code is run on the host."""

import pytest
import torch

from tests.benchmarks import gpu


def lines(capsys, *words):
    """Run the benchmark and return its table."""
    gpu.main([*words, "--networks", "1", "--rounds", "1"])
    told = capsys.readouterr().out.splitlines()
    return told[0], [line for line in told if line.startswith("| 8-64")]


def test_on_the_host(capsys, monkeypatch):
    """A line for each size, under the name of the device."""
    torch.set_num_threads(1)
    monkeypatch.setattr(gpu, "MOST_BATCHES", 2)
    name, table = lines(capsys, "--device", "cpu", "--sizes", "16")
    assert name.startswith("cpu, ")
    assert [line.split(" | ")[1] for line in table] == ["16"]
    assert all(line.endswith("% |") for line in table)


def test_without_a_card_it_says_so(monkeypatch):
    """The default device is a card."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device is 'cuda', but torch"):
        gpu.main([])


@pytest.mark.gpu
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: the benchmark was not run on a card")
def test_on_a_card(capsys):
    """The table names the card."""
    name, table = lines(capsys, "--sizes", "16,256")
    assert torch.cuda.get_device_name() in name
    assert len(table) == 2
