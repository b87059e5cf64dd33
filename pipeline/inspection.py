"""What is in a checkpoint, for people; and how two states differ in shape.

In: a checkpoint, or the structure of two states. Out: lines of text, or the same as JSON.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.archive import Checkpoint

Structure = dict[str, str]

MOST_LINES = 20  # of differences; more would bury the first, which explains the others
MOST_ITEMS = 8  # of a list that is shown


class Summary(NamedTuple):
    """Figures of a tensor; those of its finite entries are NaN if it has none."""

    dtype: str
    shape: tuple[int, ...]
    least: float
    most: float
    norm: float
    not_finite: int


def structure(state: Mapping[str, Any]) -> Structure:
    """Return what has to be equal for a state to fit: dotted path -> dtype and shape, "value" or "list".

    Tensors without memory (device "meta") will do: so a network need not be made to be compared.
    """
    found: Structure = {}
    _walk(state, "", found)
    return found


def difference(expected: Structure, found: Structure, *, most: int = MOST_LINES) -> list[str]:
    """Say how the structure of a state differs from the one expected; an empty list if it does not.

    Args:
        expected: of the network that is to be loaded into.
        found: of the checkpoint.
        most: lines; the rest is counted in one more.
    """
    lines = [f"{path}: missing, expected {what}" for path, what in expected.items() if path not in found]
    lines += [
        f"{path}: found {found[path]}, expected {what}"
        for path, what in expected.items()
        if path in found and found[path] != what
    ]
    lines += [f"{path}: unexpected, found {what}" for path, what in found.items() if path not in expected]
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more differences"]


def describe(checkpoint: Checkpoint) -> list[str]:
    """Return a checkpoint as lines: what it is, then its state as a tree with figures of each tensor."""
    manifest = checkpoint.manifest
    known = " ".join(f"{name} {version}" for name, version in manifest.versions.items())
    tensors = list(_tensors(checkpoint.state))
    entries = sum(math.prod(tensor.shape) for tensor in tensors)
    return [
        f"checkpoint  {checkpoint.number}",
        f"written     {manifest.created}",
        f"by          {known}",
        f"format      {manifest.format}",
        f"size        {manifest.size_bytes:,} bytes, {len(tensors)} tensors with {entries:,} entries",
        f"sha256      {manifest.sha256}",
        "",
        *_tree(checkpoint.state, ""),
    ]


def describe_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the same as plain JSON: figures that are not finite are None."""
    manifest = checkpoint.manifest
    return {
        "number": checkpoint.number,
        "created": manifest.created,
        "versions": dict(manifest.versions),
        "format": manifest.format,
        "size_bytes": manifest.size_bytes,
        "sha256": manifest.sha256,
        "state": _plain(checkpoint.state),
    }


def summary(values: Tensor | npt.NDArray[Any]) -> Summary:
    """Return the figures of a tensor or array; truth values count as 0 and 1."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    dtype = str(tensor.dtype).removeprefix("torch.")
    entries = tensor.detach().cpu().to(torch.float64).numpy()
    finite = entries[np.isfinite(entries)]
    if not finite.size:
        return Summary(dtype, tuple(tensor.shape), math.nan, math.nan, math.nan, entries.size)
    least, most = float(finite.min()), float(finite.max())
    norm = float(np.linalg.norm(finite))
    return Summary(dtype, tuple(tensor.shape), least, most, norm, entries.size - finite.size)


def _walk(value: object, at: str, found: Structure) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _walk(item, f"{at}.{key}" if at else key, found)
    elif isinstance(value, Tensor | np.ndarray):
        found[at] = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    else:
        found[at] = "list" if isinstance(value, list | tuple) else "value"


def _tensors(value: object) -> list[Tensor | npt.NDArray[Any]]:
    if isinstance(value, Tensor | np.ndarray):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []


def _tree(state: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    leaves = [len(key) for key, value in state.items() if not isinstance(value, Mapping) or not value]
    width = min(max(leaves, default=0), 40)
    for key, value in state.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{key}", *_tree(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<{width}}  {_leaf(value)}")
    return lines


def _leaf(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        s = summary(value)
        shape = "x".join(map(str, s.shape)) or "scalar"
        text = f"{s.dtype:<8} {shape:<12}"
        if math.prod(s.shape) == 1:
            return f"{text} {_short(value.reshape(-1)[0].item())}"
        if not math.isnan(s.norm):
            text += f" {s.least:.4g} .. {s.most:.4g}  norm {s.norm:.4g}"
        return text + (f"  NOT FINITE: {s.not_finite}" if s.not_finite else "")
    if isinstance(value, Mapping):
        return "(empty)"
    if isinstance(value, list | tuple):
        shown = ", ".join(map(_short, value[:MOST_ITEMS]))
        return f"[{shown}]" if len(value) <= MOST_ITEMS else f"[{shown}, ... {len(value)} in all]"
    return _short(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Tensor | np.ndarray):
        s = summary(value)
        figures = {"min": s.least, "max": s.most, "norm": s.norm}
        return {
            "dtype": s.dtype,
            "shape": list(s.shape),
            **{name: _plain(figure) for name, figure in figures.items()},
            "not_finite": s.not_finite,
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
