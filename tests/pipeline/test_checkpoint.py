"""Checkpoints: bit-exact round trip, damage found at every byte, crashes survived at every step."""

import errno
import gc
import hashlib
import json
import logging
import math
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from pipeline import archive, faults
from pipeline.archive import CheckpointError, decode, encode
from pipeline.checkpoint import CheckpointStore, load, read
from pipeline.inspection import describe, describe_json, difference, structure

ROOT = Path(__file__).resolve().parents[2]
DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64")

arrays = st.sampled_from((*DTYPES, *FLOATS)).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
tensors = arrays.map(lambda a: torch.from_numpy(np.array(a)))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
odd = st.sampled_from([2**70, -(2**64), 10**4000, "\ud800", "\ud83d" + "\ude00", "$tensor", -0.0, math.inf, -math.nan])
leaves = scalars | odd | tensors | arrays | st.lists(scalars, max_size=5)
keys = st.text(max_size=4).filter(lambda k: not any("\ud800" <= c <= "\udfff" for c in k)) | st.sampled_from(
    ["$", "$int", "$$x", "a/b", "a~1", "a.b", "0", "__metadata__", ""]
)
states = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: (
            st.dictionaries(keys, inner, max_size=4)
            | st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def same(a: object, b: object) -> bool:
    """Tell whether two states are equal in every bit, kind, dtype and order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b


def example() -> dict[str, Any]:
    """Return a small state with one of each kind."""
    return {
        "learner": {
            "params": {"0.weight": torch.tensor([[1.0, -2.0], [0.5, 4.0]]), "0.bias": torch.zeros(2)},
            "count": torch.tensor(7),
            "mask": torch.tensor([True, False]),
            "mean": torch.tensor([0.25, math.nan], dtype=torch.float64),
        },
        "loop": {"offset": 12, "rates": [[0, 0.01], [128, 0.02]], "names": ["a", "b"], "loss": math.nan},
        "window": np.arange(5, dtype=np.int64),
    }


@settings(max_examples=200, deadline=None)
@given(states)
def test_every_state_comes_back_bit_for_bit(state: dict[str, Any]) -> None:
    """Whatever a state may hold, its file gives it back with the same bits, types, dtypes and order."""
    assert same(decode(encode(3, state, created_s=0.0), "it").state, state)


def test_round_trip_of_what_tensors_can_be() -> None:
    """Non-contiguous, shared, expanded, reversed, bfloat16 and parameter tensors come back with their values."""
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "t": base.t(),
        "shared": base,
        "row": base[1],
        "wide": torch.ones(1).expand(4),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "param": torch.nn.Parameter(base.clone()),
        "back": np.arange(6)[::-2],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    found = decode(encode(0, state, created_s=0.0), "it").state
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value.detach())
            assert found[name].dtype == value.dtype
            found[name].add_(1)
        else:
            np.testing.assert_array_equal(found[name], value)
            found[name] += 1
    assert torch.equal(found["shared"], base + 1)  # what came back shares no memory


def test_numpy_scalars_become_plain_ones() -> None:
    """A NumPy scalar that slipped into a state is written as the Python scalar of the same value."""
    state = {"a": np.float64(0.1), "b": np.int64(3), "c": np.bool_(True), "d": [np.float32(0.5)]}
    assert same(decode(encode(0, state, created_s=0.0), "it").state, {"a": 0.1, "b": 3, "c": True, "d": [0.5]})


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": {"b": object()}}, "/a/b is a builtins.object"),
        ({"a": [1, {"c": {1, 2}}]}, "/a/1/c is a builtins.set"),
        ({"a": b"bytes"}, "/a is a builtins.bytes"),
        ({"a": np.array(["x"])}, "/a has dtype str"),
        ({"a": np.array([1, None])}, "/a has dtype object"),
        ({"a": np.zeros(1, ">f8")}, "/a has dtype float64 of foreign byte order"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "/a has dtype complex64"),
        ({"a": torch.zeros(1, device="meta")}, "/a is a torch.strided tensor on device meta"),
        ({"a": {1: 2}}, "/a has the key 1"),
        ({"\ud800": 2}, "/ has the key"),
    ],
)
def test_what_cannot_be_kept_is_named(state: dict[str, Any], where: str) -> None:
    """A state that cannot be written says where in it the trouble lies."""
    with pytest.raises(CheckpointError, match="the state at") as caught:
        encode(0, state, created_s=0.0)
    assert where in str(caught.value)
    assert caught.value.reason == "wrong_state"


def test_a_header_too_large_to_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that would not fit into a readable header is refused when saved, not when it is needed."""
    monkeypatch.setattr(archive, "_MOST_HEADER", 2000)
    with pytest.raises(CheckpointError, match="expected at most 2000") as caught:
        encode(0, {"a": list(range(1000))}, created_s=0.0)
    assert caught.value.reason == "wrong_state"


def test_any_safetensors_reader_can_open_it(tmp_path: Path) -> None:
    """The file is an ordinary safetensors file with tensors under readable names."""
    with CheckpointStore(tmp_path) as store:
        path = store.save(5, example())
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("/learner/params/0.weight"), torch.tensor([[1.0, -2.0], [0.5, 4.0]]))
        assert json.loads(file.metadata()["manifest"])["number"] == 5


def test_readers_find_every_dtype_and_aligned_values(tmp_path: Path) -> None:
    """Another program finds each tensor with its dtype and shape, at a position that suits its width."""
    state = {name: torch.arange(5).to(getattr(torch, name)) for name in (*DTYPES, *FLOATS, "bfloat16")}
    state |= {"one": torch.tensor(2.5), "none": torch.zeros(0, 3)}
    data = encode(0, state, created_s=0.0)
    (length,) = struct.unpack_from("<Q", data)
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    (tmp_path / "it.safetensors").write_bytes(data)
    with safe_open(tmp_path / "it.safetensors", framework="pt") as file:
        assert set(file.keys()) == {f"/{name}" for name in state}
        for name, tensor in state.items():
            found = file.get_tensor(f"/{name}")
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(found, tensor)
            assert header[f"/{name}"]["data_offsets"][0] % tensor.itemsize == 0


def test_what_grows_leaves_no_types_behind() -> None:
    """However many sizes a tensor has had when it was saved, no more types are alive than before."""

    def types() -> int:
        gc.collect()
        return sum(issubclass(type(one), type) for one in gc.get_objects())

    encode(0, example(), created_s=0.0)
    before = types()
    for size in range(5000, 5050):
        encode(0, {"tensor": torch.zeros(size), "array": np.zeros(size)}, created_s=0.0)
    assert types() == before


def test_same_state_same_bytes() -> None:
    """Writing a state twice at the same moment gives the same file."""
    assert encode(1, example(), created_s=5.0) == encode(1, example(), created_s=5.0)


def test_damage_is_found_at_every_byte() -> None:
    """A flipped bit at any position of the file, header and padding included, is found."""
    data = encode(1, example(), created_s=5.0)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << (at % 8)
        with pytest.raises(CheckpointError) as caught:
            decode(bytes(broken), "it")
        assert caught.value.reason in {"damaged", "not_a_checkpoint"}


def test_truncation_is_found_at_every_length() -> None:
    """A file cut off anywhere, or with something behind it, is found."""
    data = encode(1, example(), created_s=5.0)
    for length in range(0, len(data), 7):
        with pytest.raises(CheckpointError):
            decode(data[:length], "it")
    with pytest.raises(CheckpointError, match="damaged"):
        decode(data + b"\0", "it")


def test_files_of_others_are_not_checkpoints() -> None:
    """A safetensors file of another program, and other data, are refused with a remedy."""
    strangers = [
        b"",
        b"x" * 100,
        save({"a": torch.ones(2)}, {"format": "pt"}),
        save({}, {"manifest": '{"kind": 1}'}),
    ]
    strangers.append(save({}, {"manifest": '{"kind": "other", "sha256": "0"}'}))
    for data in strangers:
        with pytest.raises(CheckpointError, match="streamnn wrote") as caught:
            decode(data, "it")
        assert caught.value.reason == "not_a_checkpoint"


def newer(data: bytes) -> bytes:
    """Return a file as a program with the next format would have written it."""
    text = data.replace(b'\\"format\\":1', b'\\"format\\":2')
    stated = decode(data, "it").manifest.sha256.encode()
    blank = text.replace(stated, archive._PLACEHOLDER)
    return text.replace(stated, hashlib.sha256(blank).hexdigest().encode())


def test_a_newer_format_stops_loudly(tmp_path: Path) -> None:
    """A file of a newer format is refused by name, and nothing falls back to an older checkpoint behind it."""
    with CheckpointStore(tmp_path) as store:
        store.save(1, example())
        store.path(2).write_bytes(newer(encode(2, example(), created_s=0.0)))
        with pytest.raises(CheckpointError, match="format version 2, expected at most 1") as caught:
            store.latest()
    assert caught.value.reason == "newer_format"


def test_latest_keep_and_permissions(tmp_path: Path) -> None:
    """The newest is returned, the oldest go, and files and folder are private."""
    folder = tmp_path / "deep" / "checkpoints"
    with CheckpointStore(folder, keep=2, clock=lambda: 1.5) as store:
        assert store.latest() is None
        for number in (0, 10, 200, 30_000_000_000_000):
            path = store.save(number, {"n": number})
        newest = store.latest()
        assert newest is not None
        assert (newest.number, newest.state) == (30_000_000_000_000, {"n": 30_000_000_000_000})
        assert newest.manifest.created == "1970-01-01T00:00:01.500+00:00"
        assert newest.manifest.size_bytes == path.stat().st_size
        assert newest.manifest.versions["torch"] == torch.__version__
        assert [p.name for p in store.paths()] == [
            "checkpoint-000000000200.safetensors",
            "checkpoint-30000000000000.safetensors",
        ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_damaged_newest_falls_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged newest checkpoint is passed over with a warning, and set aside as the run goes on."""
    with CheckpointStore(tmp_path, keep=1) as store:
        store.save(1, {"n": 1})
        store.path(9).write_bytes(encode(9, {"n": 9}, created_s=0.0)[:-1] + b"x")
        with caplog.at_level(logging.WARNING):
            found = store.latest()
        assert found is not None
        assert found.number == 1
        assert "passed over" in caplog.text
        store.save(2, {"n": 2})
        found = store.latest()
        assert found is not None
        assert found.number == 2
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            ".lock",
            "checkpoint-000000000002.safetensors",
            "checkpoint-000000000009.safetensors.aside",
        ]


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    """If no checkpoint is intact it is an error that lists them: beginning afresh would lose a model."""
    with CheckpointStore(tmp_path) as store:
        store.path(1).write_bytes(b"")
        store.path(2).write_bytes(b"zz")
        with pytest.raises(CheckpointError, match="no checkpoint in") as caught:
            store.latest()
    assert "000000000001" in str(caught.value)
    assert "000000000002" in str(caught.value)


def test_a_checkpoint_replaces_one_of_the_same_number(tmp_path: Path) -> None:
    """Saving a number twice keeps the second."""
    with CheckpointStore(tmp_path) as store:
        store.save(1, {"n": 1})
        path = store.save(1, {"n": 2})
        assert store.load(path).state == {"n": 2}
        assert len(store.paths()) == 1


@pytest.mark.parametrize(("code", "reason"), [(errno.ENOSPC, "no_space"), (errno.EIO, "unwritable")])
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_failed_write_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, call: str
) -> None:
    """When the disk is full or fails, the previous checkpoint stays and nothing half written does."""
    with CheckpointStore(tmp_path) as store:
        store.save(1, {"n": 1})

        def fail(*_: object, **__: object) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(CheckpointError, match="cannot write the checkpoint") as caught:
                store.save(2, {"n": 2})
        assert caught.value.reason == reason
        assert [p.name for p in tmp_path.iterdir() if "unfinished" in p.name] == []
        latest = store.latest()
        assert latest is not None
        assert latest.number == 1
        store.save(3, {"n": 3})


def test_an_unreadable_folder_is_an_error(tmp_path: Path) -> None:
    """A path that is a file, or does not exist, gives one readable error."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot open the checkpoint folder"):
        CheckpointStore(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read(tmp_path)
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, keep=0)
    with CheckpointStore(tmp_path / "store") as store, pytest.raises(ValueError, match="number"):
        store.save(-1, {})


def child(script: str, *args: str, crash: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script in another process."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "STREAMNN_CRASH_AT": crash}
    return subprocess.run(
        [sys.executable, "-c", script, *args],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


# one process writes many checkpoints, forking a child to be killed for each crash point: torch is
# imported once
CRASHES = """
import os, sys
from pathlib import Path
from pipeline.checkpoint import CheckpointStore
from pipeline.faults import Crash

for name in sys.argv[2:]:
    folder = Path(sys.argv[1]) / name
    pid = os.fork()
    if pid == 0:
        store = CheckpointStore(folder, keep=1, crash_point=Crash(name, 2))
        store.save(1, {"n": 1})
        store.save(2, {"n": 2})
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(name, os.WTERMSIG(status))
"""


def test_a_crash_between_any_two_steps_leaves_a_checkpoint(tmp_path: Path) -> None:
    """Killed with SIGKILL around writing, forcing to disk or renaming, the folder loads the old or the new."""
    points = [p for p in faults.CRASH_POINTS if p.split("_")[1] in {"write", "fsync", "rename"}]
    done = child(CRASHES, str(tmp_path), *points)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [word for name in points for word in (name, str(int(signal.SIGKILL)))]
    for name in points:
        with CheckpointStore(tmp_path / name) as store:
            latest = store.latest()
            assert latest is not None
            number = 2 if name == "after_rename" else 1
            assert (latest.number, latest.state) == (number, {"n": number})
            assert [p.name for p in (tmp_path / name).iterdir() if "unfinished" in p.name] == []
            store.save(3, {"n": 3})


def test_two_processes_cannot_write_one_folder(tmp_path: Path) -> None:
    """A folder claimed by a running process is refused to a second one, which leaves unfinished files alone."""
    unfinished = tmp_path / ".checkpoint-000000000005.safetensors.unfinished"
    script = "import sys; from pathlib import Path; from pipeline.checkpoint import CheckpointStore as S\n"
    script += "S(Path(sys.argv[1])).claim()"
    with CheckpointStore(tmp_path) as store:
        store.claim()
        unfinished.write_bytes(b"half")
        refused = child(script, str(tmp_path))
        assert "belongs to another process" in refused.stderr
        assert unfinished.exists()
    allowed = child(script, str(tmp_path))
    assert allowed.returncode == 0, allowed.stderr
    assert not unfinished.exists()


def names(folder: Path) -> list[str]:
    """What lies in a folder, without the lock."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock")


def test_a_fenced_owner_cannot_touch_what_its_successor_has(tmp_path: Path) -> None:
    """A process that wakes up in the middle of a write finishes it in its own term, and is told so at the next."""
    woken: list[Callable[[], None]] = []

    def sleep(point: str) -> None:
        if point == "before_rename" and woken:
            woken.pop()()

    def succeed() -> None:
        new.claim(shared=True)
        new.begin_term()
        new.confirm_term()
        new.go_on_from(tmp_path / "checkpoint-000000000010-1.safetensors")
        new.save(30, {"n": "new"})

    with CheckpointStore(tmp_path, keep=2, crash_point=sleep) as old, CheckpointStore(tmp_path, keep=2) as new:
        old.claim(shared=True)
        old.begin_term()
        old.save(10, {"n": "old"})
        woken.append(succeed)
        old.save(20, {"n": "old"})  # stopped before its rename, and woken up after the successor has written 30
        assert [p.name for p in new.paths()] == [
            "checkpoint-000000000010-1.safetensors",
            "checkpoint-000000000020-1.safetensors",
            "checkpoint-000000000030-2.safetensors",
        ]
        with pytest.raises(CheckpointError, match="another process has taken over") as caught:
            old.save(40, {"n": "old"})
        assert caught.value.reason == "taken_over"
        new.save(20, {"n": "again"})  # 30 is of this term, and ahead
        latest = new.latest()
        assert latest is not None
        assert latest.state == {"n": "again"}
        # the old ones stay until two of the new term are there
        assert (tmp_path / "checkpoint-000000000010-1.safetensors").exists()
        new.save(25, {"n": "again"})
    assert names(tmp_path) == [
        ".term-2",
        "checkpoint-000000000020-2.safetensors",
        "checkpoint-000000000025-2.safetensors",
        "checkpoint-000000000030-2.safetensors.aside",
    ]


def test_a_successor_that_removed_what_was_unfinished_is_named(tmp_path: Path) -> None:
    """A process that finds its half-written file gone is told that another has taken over."""
    with CheckpointStore(tmp_path) as old, CheckpointStore(tmp_path, keep=1) as new:

        def succeed(point: str) -> None:
            if point == "before_rename":
                new.begin_term()
                new.save(2, {})

        old._crash_point = succeed
        old.begin_term()
        with pytest.raises(CheckpointError, match="taken over"):
            old.save(1, {})
    assert names(tmp_path) == [".term-2", "checkpoint-000000000002-2.safetensors"]


def test_of_two_that_begin_at_once_only_the_later_term_is_confirmed(tmp_path: Path) -> None:
    """Whoever fenced before a later term began stops, so that terms rise with owners."""
    with CheckpointStore(tmp_path) as one, CheckpointStore(tmp_path) as other:
        one.begin_term()
        other.begin_term()
        other.confirm_term()
        with pytest.raises(CheckpointError, match="taken over"):
            one.confirm_term()


def test_a_term_sets_aside_what_is_ahead_of_its_base(tmp_path: Path) -> None:
    """Whatever was never committed is not taken for the newest, and does not push the base out."""
    with CheckpointStore(tmp_path, keep=2) as store:
        base = store.save(10, {"n": 1})
        for number in (12, 14, 16):  # three starts that crashed before they committed
            store.begin_term()
            store.go_on_from(base)
            store.save(number, {"n": number})
            assert base.exists()
    with CheckpointStore(tmp_path) as later:
        later.claim()  # without a term of its own it goes on in the newest one
        assert later.save(18, {}).name == "checkpoint-000000000018-3.safetensors"


def test_a_shared_folder_is_closed_to_those_who_do_not_share(tmp_path: Path) -> None:
    """Processes that share a folder claim it beside one another; one that does not is refused."""
    script = "import sys; from pathlib import Path; from pipeline.checkpoint import CheckpointStore as S\n"
    script += "S(Path(sys.argv[1])).claim(shared=sys.argv[2] == 'shared')"
    with CheckpointStore(tmp_path) as store:
        store.claim(shared=True)
        assert child(script, str(tmp_path), "shared").returncode == 0
        assert "belongs to another process" in child(script, str(tmp_path), "alone").stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("after_wirte:1", "Did you mean after_write"),
        ("nonsense:1", "There are: before_learn"),
        ("after_write", "name:count"),
        ("after_write:x", "name:count"),
        ("after_write:0", "count is 0"),
    ],
)
def test_mistyped_crash_points_are_errors(text: str, message: str) -> None:
    """A crash point that does not exist would test nothing, so it is an error that names the legal ones."""
    with pytest.raises(faults.FaultError, match=message):
        faults.from_environment({faults.VARIABLE: text})


def test_crash_points_usually_do_nothing() -> None:
    """Without the variable, passing a point does nothing, but a point the code invented is still an error."""
    pass_point: Callable[[str], None] = faults.from_environment({})
    pass_point("after_write")
    with pytest.raises(faults.FaultError):
        pass_point("after_lunch")


def test_difference_names_what_differs() -> None:
    """Loading into the wrong network is explained by path, shape and dtype."""
    found = structure(example())
    other = example()
    other["learner"]["params"] = {
        "0.weight": torch.zeros(3, 2),
        "1.weight": torch.zeros(2, dtype=torch.float64),
    }
    assert difference(found, found) == []
    assert difference(structure(other), found) == [
        "learner.params.1.weight: missing, expected float64 [2]",
        "learner.params.0.weight: found float32 [2, 2], expected float32 [3, 2]",
        "learner.params.0.bias: unexpected, found float32 [2]",
    ]
    many = structure({str(i): 0 for i in range(30)})
    assert difference(many, {}, most=3)[2:] == ["2: missing, expected value", "... and 27 more differences"]
    assert structure({"a": torch.zeros(2, device="meta")}) == {"a": "float32 [2]"}


def test_describe_shows_the_tree_and_its_figures(tmp_path: Path) -> None:
    """A checkpoint is shown with number, size, figures of tensors, and scalars; what is not finite stands out."""
    with CheckpointStore(tmp_path, clock=lambda: 0.0) as store:
        store.save(5, {**example(), "bad": torch.tensor([1.0, math.inf]), "empty": {}, "none": np.zeros((0, 3))})
    text = " ".join("\n".join(describe(read(tmp_path))).split())
    for part in (
        "checkpoint 5",
        "1970-01-01T00:00:00.000+00:00",
        "0.weight float32 2x2 -2 .. 4 norm 4.61",
        "count int64 scalar 7",
        "mean float64 2 0.25 .. 0.25 norm 0.25 NOT FINITE: 1",
        "bad float32 2 1 .. 1 norm 1 NOT FINITE: 1",
        "none float64 0x3",
        "names ['a', 'b']",
        "rates [[0, 0.01], [128, 0.02]]",
    ):
        assert part in text


def test_describe_json_is_strict_json(tmp_path: Path) -> None:
    """The machine-readable form holds the same figures and no NaN."""
    with CheckpointStore(tmp_path) as store:
        store.save(5, example())
    found = json.loads(json.dumps(describe_json(read(tmp_path)), allow_nan=False))
    assert found["number"] == 5
    assert found["state"]["window"] == {
        "dtype": "int64",
        "shape": [5],
        "min": 0.0,
        "max": 4.0,
        "norm": math.sqrt(30),
        "not_finite": 0,
    }
    assert found["state"]["loop"]["loss"] is None
