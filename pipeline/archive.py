"""The format of a checkpoint file: one nested state, as bytes.

In: a nested dict with str keys whose leaves are tensors, arrays and scalars. Out: a safetensors file, and
back again bit for bit. Tensors lie in the file under their JSON Pointer ("/learner/params/0.weight"), so
that any safetensors reader can look at them; everything else is a JSON manifest in the file's metadata.
Nothing in the file is ever executed.

The manifest begins with the SHA-256 of the whole file, taken while a placeholder of the same length stood
in its place. So it covers every byte, the header and the padding too.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from pipeline.tensor_file import DTYPES, Packed, lay_out, pack_array, pack_tensor
from pipeline.versions import program, versions

State = dict[str, Any]

FORMAT = 1  # raised whenever a program that knows the previous number would misread a file
KIND = "streamnn checkpoint"

_PLACEHOLDER = b"sha256-of-this-file-with-this-text-in-its-place-64-characters---"
_MOST_HEADER = 90_000_000  # bytes; safetensors refuses to read a header of more than 100 million
_LARGEST_PLAIN_INT = 2**53  # beyond it other JSON readers lose digits


class CheckpointError(Exception):
    """A checkpoint cannot be read or written.

    Attributes:
        reason: short and stable, for counting: "damaged", "newer_format", "not_a_checkpoint",
            "unreadable", "unwritable", "no_space", "in_use", "taken_over", "wrong_state".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint says about itself.

    Attributes:
        format: version of the file format.
        created: moment of writing, UTC, ISO 8601.
        versions: of streamnn, Python and the libraries the state went through.
        sha256: of the file.
        size_bytes: of the file.
    """

    format: int
    created: str
    versions: dict[str, str]
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint: the number of records read before it, the state, and what the file says about itself."""

    number: int
    state: State
    manifest: Manifest


def encode(number: int, state: Mapping[str, Any], *, created_s: float) -> bytes:
    """Turn a state into the bytes of a file.

    Args:
        number: of the checkpoint: records read before it.
        state: nested dict with str keys; leaves are tensors, numeric arrays, NumPy scalars (they come
            back as Python's), int, float, bool, str, None; lists and tuples of these and of dicts.
        created_s: moment, seconds since 1970.

    Raises:
        CheckpointError: "wrong_state": something else is in the state; the message names where.
    """
    tensors: dict[str, Packed] = {}
    structure = _encode_dict(state, "", tensors)
    manifest = {
        "sha256": _PLACEHOLDER.decode(),
        "kind": KIND,
        "format": FORMAT,
        "number": number,
        "created": datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds"),
        "versions": versions(),
        "state": structure,
    }
    text = json.dumps(manifest, separators=(",", ":"))
    if len(text) > _MOST_HEADER:
        raise CheckpointError(
            "wrong_state",
            f"what is not a tensor in the state takes {len(text)} bytes as JSON, expected at most "
            f"{_MOST_HEADER}. Keep long lists of numbers as arrays.",
        )
    blob = lay_out(tensors, {"manifest": text})
    at = blob.index(_PLACEHOLDER)
    blob[at : at + len(_PLACEHOLDER)] = hashlib.sha256(blob).hexdigest().encode()
    return bytes(blob)


def decode(data: bytes, name: str) -> Checkpoint:
    """Turn the bytes of a file into the checkpoint; tensors come back on the CPU.

    Args:
        data: the whole file.
        name: of the file, for messages.

    Raises:
        CheckpointError: "not_a_checkpoint", "damaged" or "newer_format".
    """
    manifest = _manifest(data, name)
    _verify(data, manifest, name)
    found = manifest.get("format")
    if not isinstance(found, int) or found > FORMAT:
        wrote = manifest.get("versions", {}).get("streamnn", "a newer version")
        raise CheckpointError(
            "newer_format",
            f"{name} has format version {found}, expected at most {FORMAT}: streamnn {wrote} wrote it, this "
            f"is {program()}. Use that version or a newer one.",
        )
    tensors = load(data)
    state = _decode(manifest["state"], "", tensors)
    return Checkpoint(
        number=manifest["number"],
        state=state,
        manifest=Manifest(
            format=found,
            created=manifest["created"],
            versions=manifest["versions"],
            sha256=manifest["sha256"],
            size_bytes=len(data),
        ),
    )


def _manifest(data: bytes, name: str) -> dict[str, Any]:
    """Parse the header by hand: it has to be read before anything in the file can be believed."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        manifest: dict[str, Any] = json.loads(header["__metadata__"]["manifest"])
        kind, digest = manifest["kind"], manifest["sha256"]
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            "not_a_checkpoint",
            f"{name} is not a checkpoint, or it is damaged at its beginning "
            f"({type(error).__name__}: {error}). Choose a file that streamnn wrote, or an earlier one.",
        ) from error
    if kind != KIND or not isinstance(digest, str):
        raise CheckpointError(
            "not_a_checkpoint",
            f"{name} is a {kind!r}, expected a {KIND!r}. Choose a file that streamnn wrote.",
        )
    return manifest


def _verify(data: bytes, manifest: dict[str, Any], name: str) -> None:
    stated = manifest["sha256"]
    # the first match is the real one: metadata comes first in the header, and the digest first in the
    # manifest
    at = data.find(stated.encode(errors="replace"))
    if at >= 0 and len(stated) == len(_PLACEHOLDER):
        digest = hashlib.sha256(memoryview(data)[:at])
        digest.update(_PLACEHOLDER)
        digest.update(memoryview(data)[at + len(_PLACEHOLDER) :])
        found = digest.hexdigest()
    else:
        found = "no digest"
    if found != stated:
        raise CheckpointError(
            "damaged",
            f"{name} is damaged: its content has SHA-256 {found[:12]}..., expected {stated[:12]}... "
            "Delete it or put back a copy; an earlier checkpoint can be used instead.",
        )


def _encode_dict(state: Mapping[str, Any], at: str, tensors: dict[str, Packed]) -> dict[str, Any]:
    encoded = {}
    for key, value in state.items():
        if not isinstance(key, str) or not _is_text(key):
            raise _wrong(at, f"has the key {key!r}, expected Unicode text")
        path = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
        # "$" marks what JSON has no word for; a key that begins with it gets another one
        encoded["$" + key if key.startswith("$") else key] = _encode(value, path, tensors)
    return encoded


def _encode(value: object, at: str, tensors: dict[str, Packed]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST_PLAIN_INT else {"$int": hex(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
    if isinstance(value, str):
        return str(value) if _is_text(value) else {"$text": value.encode("utf-32-be", "surrogatepass").hex()}
    if isinstance(value, Mapping):
        return _encode_dict(value, at, tensors)
    if isinstance(value, tuple):
        return {"$tuple": [_encode(item, f"{at}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return value if _is_plain(value) else [_encode(item, f"{at}/{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        _check_dtype(value.dtype.name, value.dtype.isnative, at)
        tensors[at] = pack_array(value)
        return {"$array": {"dtype": value.dtype.name, "shape": list(value.shape)}}
    if isinstance(value, Tensor):
        dtype = _dtype(value)
        _check_dtype(dtype, True, at)
        if value.layout is not torch.strided or value.is_meta:
            raise _wrong(at, f"is a {value.layout} tensor on device {value.device}, expected a dense one with values")
        tensors[at] = pack_tensor(value)
        return {"$tensor": {"dtype": dtype, "shape": list(value.shape)}}
    kind = type(value)
    raise _wrong(at, f"is a {kind.__module__}.{kind.__qualname__}, expected a tensor, array, scalar, list or dict")


def _decode(value: Any, at: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return value if _is_plain(value) else [_decode(item, f"{at}/{i}", tensors) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key.startswith("$") and not key.startswith("$$"):
            return _decode_marked(key, content, at, tensors)
    state = {}
    for marked, item in value.items():
        key = marked.removeprefix("$")
        state[key] = _decode(item, f"{at}/{key.replace('~', '~0').replace('/', '~1')}", tensors)
    return state


def _decode_marked(mark: str, content: Any, at: str, tensors: dict[str, Tensor]) -> Any:
    match mark:
        case "$int":
            return int(content, 16)
        case "$float":
            return struct.unpack(">d", bytes.fromhex(content))[0]
        case "$text":
            return bytes.fromhex(content).decode("utf-32-be", "surrogatepass")
        case "$tuple":
            return tuple(_decode(item, f"{at}/{i}", tensors) for i, item in enumerate(content))
        case "$tensor" | "$array":
            tensor = tensors.get(at)
            if tensor is None or _dtype(tensor) != content["dtype"] or list(tensor.shape) != content["shape"]:
                raise CheckpointError("damaged", f"{at} is {_shown(tensor)} in the file, expected {content}")
            return tensor if mark == "$tensor" else tensor.numpy()
    raise CheckpointError("damaged", f"{at} is marked {mark!r}, which format version {FORMAT} does not have")


def _is_text(value: str) -> bool:
    """Tell whether a text holds no lone surrogates, which UTF-8 cannot carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(values: list[Any]) -> bool:
    """Tell whether a list is its own JSON form: asked once for all items, because lists can be long."""
    kinds = set(map(type, values))
    if kinds <= {bool, type(None)}:
        return True
    if kinds == {str}:
        return _is_text("".join(values))
    if kinds == {int}:
        return bool(max(map(abs, values)) <= _LARGEST_PLAIN_INT)
    return kinds == {float} and all(map(math.isfinite, values))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_dtype(name: str, native: bool, at: str) -> None:
    if name not in DTYPES or not native:
        order = "" if native else " of foreign byte order"
        raise _wrong(at, f"has dtype {name}{order}, expected one of {', '.join(sorted(DTYPES))}")


def _shown(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{_dtype(tensor)} {list(tensor.shape)}"


def _wrong(at: str, what: str) -> CheckpointError:
    return CheckpointError("wrong_state", f"the state at {at or '/'} {what}")
