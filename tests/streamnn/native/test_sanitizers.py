"""The emitted C and the pool's C under the address and undefined-behaviour sanitizers, in processes of their own.

Other tests of these parts are run again there, with everything that they compile instrumented; see sanitized.py.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from streamnn.native.build import CompilerError, find_compiler
from tests.streamnn.native.test_covering import CHOICES, _name

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parent.parent.parent.parent
NATIVE, POOL = "tests/streamnn/native", "tests/streamnn/pool"
FEW = ["-m", "not heavy"]
SETS = {
    # the widest products are left out: instrumented, one takes the compiler a minute
    "operators": [f"{NATIVE}/test_operators.py", "-k", "not 33-17 and not 70-130", *FEW],
    "layers": [f"{NATIVE}/test_modules.py", *FEW],
    "sweeps": [f"{NATIVE}/test_sweep.py", "-k", "37-19 or 64-5"],
    "networks": [
        f"{NATIVE}/test_covering.py::{test}[{_name(c)}]"
        for test, parts in (("test_steps_agree", 6), ("test_long_runs_agree", 2))
        for c in CHOICES[:: len(CHOICES) // parts]
    ],
    # each size of a micro-batch is a program of its own, and takes the compiler five seconds
    "micro-batches": [f"{NATIVE}/test_batches.py", "-k", "equals_eager and values or change_no_bit and plain"],
    "growth and undoing": ["tests/streamnn/test_hard_cases.py", *FEW],
    "pool": [f"{POOL}/test_{name}.py" for name in ("learner", "value_parts", "parts", "forests")]
    + ["-k", "parts or cuts or grow or late or padded or forests", *FEW],
}
FAULTS = {
    "reads past an array": ("double f(double *a) { return a[8]; }", "a", "heap-buffer-overflow"),
    "writes past the scratch memory": ("double f(char *a) { a[100] = 1; return 0; }", "block", "heap-buffer-overflow"),
    "shifts too far": ("double f(double *a) { return 1 << (40 + (int)a[0]); }", "a", "shift exponent 40"),
    "makes an integer of NaN": ("double f(double *a) { return (long)a[1]; }", "a", "outside the range"),
    "nothing": ("double f(double *a) { return a[7]; }", "a", ""),
}


@cache
def libraries():
    """What has to be loaded first; skips where the compiler has no sanitizers."""
    try:
        command = find_compiler(os.environ.get("CC")).command
    except CompilerError as error:
        pytest.skip(f"SANITIZERS DID NOT RUN: {error}")
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        said = subprocess.run([*command, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
        path = Path(said.stdout.strip())
        if not path.is_absolute() or not path.exists():
            pytest.skip(f"SANITIZERS DID NOT RUN: {' '.join(command)} has no {name}; install gcc with its libraries")
        found.append(str(path))
    return " ".join(found)


def run(words, cache_folder, seconds):
    """Run Python with the sanitizers loaded."""
    environ = {
        **os.environ,
        "LD_PRELOAD": libraries(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps memory to its end
        "STREAMNN_CACHE": str(cache_folder),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_sanitizers_find_faults(fault, tmp_path):
    """C built as the sets below are is stopped at its first fault, also at one byte behind a program's memory."""
    source, argument, message = FAULTS[fault]
    script = f"""
import ctypes, numpy as np
from tests.streamnn.native import sanitized
from streamnn.native import build, program
a = np.zeros(8)
a[1] = np.nan
block = program.aligned(100).numpy()
f = build.load({source!r})[0].f
f.argtypes = [ctypes.c_void_p]
f({argument}.ctypes.data)
"""
    done = run(["-c", script], tmp_path, 100)
    assert (done.returncode == 0) == (fault == "nothing"), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("name", SETS)
def test_sanitizers_are_clean(name, tmp_path):
    """Nothing is read or written out of bounds, and no behaviour is undefined, in what these tests compile."""
    words = ["-m", "pytest", "-q", "-p", "tests.streamnn.native.sanitized", "-p", "no:cacheprovider", "--timeout=1500"]
    done = run([*words, *SETS[name]], tmp_path, 1700)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert " passed" in done.stdout
    assert list(tmp_path.glob("*.so")), "nothing was compiled"
