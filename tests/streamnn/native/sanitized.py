"""A pytest plugin: all C that is built in this process is built with sanitizers, and memory has no slack at its end.

Run by test_sanitizers.py in a process of its own, because the sanitizer's library has to be loaded before all others.
"""

import torch

from streamnn.native import build, program

SANITIZERS = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all", "-g"]


def _exact(size):
    """A block that ends where the state or scratch memory ends, so that one byte further is found."""
    block = torch.empty(size, dtype=torch.uint8)
    assert block.data_ptr() % 64 == 0, "torch is expected to align memory to cache lines"
    return block


for flags in (build.FLAGS, build.STRICT):  # in place: they are default arguments
    flags[flags.index("-O3")] = "-O0"  # the checks are the same, built in a third of the time
    flags += SANITIZERS
program.aligned = _exact
