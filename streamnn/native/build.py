"""From C to a loaded library: find a compiler, build once, keep the result on disk.

The cache lies in the user's cache folder (`STREAMNN_CACHE`, else `XDG_CACHE_HOME` or ~/.cache, /streamnn), readable by the
user alone; one that another user owns or could write in is not used. A library's name is a hash of source, flags, compiler
and processor; beside it lies the hash of its own bytes, and a file that does not match, or that another user owns or could
have written, is built again, never loaded.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)

# No fast-math: it would set flush-to-zero for the whole process when loaded, and make `x == amax(x)` false. Integers wrap,
# as torch's do. A product and the sum it goes into are rounded once (3 to 15 % faster; errno and traps are nobody's).
FLAGS = [
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-fwrapv",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
    "-w",
]
# different loops over the same numbers (a row alone, a row among others) need not contract alike
STRICT = [*FLAGS, "-ffp-contract=off"]
TIMEOUT_S = 300
ASK_S = 0.2  # between two questions whether a library is still needed
LEFT_S = 3600.0  # older folders of builds are those of processes that were killed


class CompilerError(RuntimeError):
    """No usable C compiler, or it failed."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler: the command and what it says of itself."""

    command: tuple[str, ...]
    version: str


@cache
def find_compiler(named: str | None) -> Compiler:
    """Find a C compiler: the one named, else cc, gcc or clang on the path, else the one of the ziglang wheel.

    Args:
        named: value of the environment variable CC; None if unset.

    Raises:
        CompilerError: there is none that answers.
    """
    if named:
        candidates = [tuple(shlex.split(named))]
    else:
        candidates = [(c,) for c in ("cc", "gcc", "clang") if shutil.which(c)]
        candidates.append((sys.executable, "-m", "ziglang", "cc"))
    for command in candidates:
        try:
            said = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return Compiler(command, said.stdout.partition("\n")[0])
    raise CompilerError(
        f"no C compiler answers (tried {', '.join(shlex.join(c) for c in candidates)}); install gcc or clang,"
        " or ziglang with pip (the extra `compiler`), or set CC"
    )


def processor() -> str:
    """Describe the processor that `-march=native` compiles for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    wanted = ("model name", "flags", "Features", "CPU part")
    told = dict.fromkeys(line for line in lines if line.startswith(wanted))
    return f"{platform.machine()}\n" + "\n".join(told)


def cache_folder() -> Path:
    """Return the folder for built libraries, made if need be with private permissions.

    Raises:
        OSError: it cannot be made, or others could put a library of theirs there.
    """
    base = os.environ.get("STREAMNN_CACHE")
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamnn"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    # not tightened: it may be one that others need, such as /tmp
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"other users may write in the cache folder {folder}; own it and forbid that (chmod go-w), or set"
            " STREAMNN_CACHE to another folder"
        )
    return folder


def never() -> bool:
    """Give nothing up."""
    return False


def load(
    source: str, *, flags: Sequence[str] = FLAGS, given_up: Callable[[], bool] = never
) -> tuple[ctypes.CDLL, bool]:
    """Build C source, or take it from the cache. Returns the library and whether it had to be built.

    Args:
        source: C.
        flags: FLAGS, or STRICT where one value may be computed by different loops.
        given_up: asked again and again while the compiler runs, whether nobody needs it any more.

    Raises:
        CompilerError: there is no compiler, it does not accept the source, or it was given up.
    """
    compiler = find_compiler(os.environ.get("CC"))
    # the command too: CC may hold flags of its own
    made_of = [source, *flags, *compiler.command, compiler.version, processor()]
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:32]
    try:
        folder = cache_folder()
        path = folder / f"step-{key}.so"
        if _trusted(path):
            return ctypes.CDLL(str(path)), False
        _build(compiler, source, path, flags, given_up)
    except OSError as error:  # no place to keep it: build for this process alone
        _tell(f"what is compiled is not kept for other processes: {error}")
        folder = Path(tempfile.mkdtemp(prefix="streamnn-"))
        path = folder / f"step-{key}.so"
        try:
            _build(compiler, source, path, flags, given_up)
            return ctypes.CDLL(str(path)), True
        except OSError as again:
            raise CompilerError(f"cannot build the native step: {again}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return ctypes.CDLL(str(path)), True


@cache
def _tell(message: str) -> None:
    """Log a message once a process."""
    _log.warning(message)


def _trusted(path: Path) -> bool:
    """Tell whether a cached library is ours and whole."""
    seal = path.with_suffix(".sha256")
    try:
        for file in (path, seal):
            status = file.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
                return False
        return seal.read_text(encoding="ascii") == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def _build(
    compiler: Compiler, source: str, path: Path, flags: Sequence[str], given_up: Callable[[], bool]
) -> None:  # fmt: skip
    _clear(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as work:
        code, built = Path(work) / "step.c", Path(work) / "step.so"
        code.write_text(source, encoding="ascii")
        _compile(compiler, [*flags, str(code), "-o", str(built), "-lm"], given_up)
        built.chmod(0o600)
        seal = Path(work) / "seal"
        seal.write_text(hashlib.sha256(built.read_bytes()).hexdigest(), encoding="ascii")
        seal.chmod(0o600)
        code.chmod(0o600)
        code.replace(path.with_suffix(".c"))  # kept beside it, so that a person can read what ran
        seal.replace(path.with_suffix(".sha256"))
        built.replace(path)


def _clear(folder: Path) -> None:
    """Remove what builds left behind that were killed."""
    for left in folder.glob("build-*"):
        with suppress(OSError):  # another process removed it first
            if left.lstat().st_mtime < time.time() - LEFT_S:
                shutil.rmtree(left, ignore_errors=True)


def _compile(compiler: Compiler, arguments: Sequence[str], given_up: Callable[[], bool]) -> None:
    name, ends = shlex.join(compiler.command), time.monotonic() + TIMEOUT_S
    # a session of its own, so that what the compiler starts ends with it
    with subprocess.Popen(
        [*compiler.command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while True:
                try:
                    said = process.communicate(timeout=ASK_S)[1]
                    break
                except subprocess.TimeoutExpired as error:
                    if time.monotonic() > ends:
                        raise CompilerError(f"{name} took longer than {TIMEOUT_S} s") from error
                    if given_up():
                        raise CompilerError(f"{name} was given up") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    if process.returncode:
        raise CompilerError(f"{name} ({compiler.version}) failed: {said.strip()[-500:]}")
