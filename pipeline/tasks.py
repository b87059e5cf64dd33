"""What is to be predicted: from settings and the head of the stream to targets, their kinds and their classes.

In: the configured targets and task, and a look at the first records. Out: `Resolved`, or a message that asks: where the
head of a stream allows two readings nothing is guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from connectors import MOMENTS, FieldHead, Kind, Schema, StreamHead
from pipeline.config import StreamSettings
from pipeline.settings import SettingsError
from streamnn.heads import TargetKind, TargetSpec
from streamnn.targets import Label

Name = Literal["binary", "multiclass", "multilabel", "multioutput", "regression", "multitarget", "mixed"]

ONE = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
SEVERAL = {"multilabel": "binary", "multioutput": "multiclass", "multitarget": "regression"}
FIELD_KINDS: dict[TargetKind, Kind] = {"binary": "class", "multiclass": "class", "regression": "value"}
ASK = "set the task: --task regression if it is a quantity, --task multiclass if its numbers name classes"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the settings and the stream say together.

    Attributes:
        task: one of `Name`.
        targets: in order.
        classes: classes known beforehand: target -> labels, in the order of their positions.
        schema: what the source decodes with.
        feature_fields: numeric fields known before the first event.
    """

    task: str
    targets: tuple[TargetSpec, ...]
    classes: dict[str, tuple[Label, ...]]
    schema: Schema
    feature_fields: tuple[str, ...]


def resolve(settings: StreamSettings, head: StreamHead) -> Resolved:
    """Decide what is predicted and how every field is read.

    Raises:
        SettingsError: targets are missing or unknown, or the task is not clear; the message says what to set.
    """
    fields = {f.name: f for f in head.fields}
    names = _target_names(settings, head)
    for name in names:
        if head.records and name not in fields:
            raise SettingsError(
                f"stream.targets: {name!r} is not a field of {settings.source}; it has {_listed(list(fields))}"
            )
    # what a stream says of its own targets holds for those alone
    asked = head.task if settings.task == "auto" and head.task and names == head.targets else settings.task
    kinds = _kinds(asked, names, fields, settings)
    task = asked if asked != "auto" else _name(kinds)
    labels = task == "multilabel"
    declared: dict[str, Kind] = {**settings.kinds}  # type: ignore[dict-item]  # Schema checks, with a message
    for name, target_kind in zip(names, kinds, strict=True):
        declared[name] = "degree" if labels else FIELD_KINDS[target_kind]
    named = {settings.id, *settings.ignore} - {""}
    for field in head.fields:
        if field.name in declared or field.name in named or field.missing == head.records:
            continue
        # a field of whole numbers may hold a fraction later
        declared[field.name] = "number" if field.kind == "integer" else field.kind
    if settings.moment and declared.get(settings.moment) not in MOMENTS:
        declared[settings.moment] = "moment"
    schema = Schema(
        kinds=declared,
        targets=names,
        id=settings.id,
        moment=settings.moment,
        ignore=settings.ignore,
        extra=settings.extra,
    )
    numeric = ("number", "integer", "boolean")
    listed = [f.name for f in head.fields] if head.fields else list(declared)
    inputs = tuple(n for n in listed if declared.get(n) in numeric and n not in names and n not in named)
    targets = tuple(TargetSpec(name, kind) for name, kind in zip(names, kinds, strict=True))
    classes = {t.name: _two(fields[t.name]) for t in targets if t.kind == "binary" and not labels and t.name in fields}
    classes |= _declared_classes(settings, targets)
    return Resolved(task, targets, {n: c for n, c in classes.items() if c}, schema, inputs)


def _declared_classes(settings: StreamSettings, targets: tuple[TargetSpec, ...]) -> dict[str, tuple[Label, ...]]:
    """Check the classes that the settings name."""
    kinds = {t.name: t.kind for t in targets}
    found: dict[str, tuple[Label, ...]] = {}
    for name, labels in settings.classes.items():
        if kinds.get(name) not in ("binary", "multiclass"):
            raise SettingsError(f"stream.classes.{name}: {name!r} is not a target with classes; leave it out")
        if not isinstance(labels, list) or not all(isinstance(label, (str, int)) for label in labels):
            raise SettingsError(f"stream.classes.{name} is {labels!r}, expected a list of labels")
        if len(set(labels)) < len(labels) or (kinds[name] == "binary" and len(labels) != 2):
            raise SettingsError(
                f"stream.classes.{name} is {labels!r}, expected different labels, and two of them for a binary target"
            )
        found[name] = tuple(labels)
    return found


def _target_names(settings: StreamSettings, head: StreamHead) -> tuple[str, ...]:
    if settings.targets and settings.targets_last:
        raise SettingsError("stream.targets and stream.targets_last are both set; give one of them")
    if settings.targets:
        if len(set(settings.targets)) < len(settings.targets):
            raise SettingsError(f"stream.targets: {list(settings.targets)} names a field twice; name each once")
        return settings.targets
    if settings.targets_last:
        names = [f.name for f in head.fields if f.name not in settings.ignore]
        if settings.targets_last >= len(names):
            raise SettingsError(
                f"stream.targets_last is {settings.targets_last}, but the stream has {len(names)} fields: at least one"
                " must be left to predict from"
            )
        return tuple(names[-settings.targets_last :])
    if head.targets:
        return head.targets
    raise SettingsError(
        "stream.targets: which field is to be predicted? Name it with --target NAME (several with commas), or use"
        f" --targets-last N. The fields are {_listed([f.name for f in head.fields])}"
    )


def _kinds(
    task: str, names: tuple[str, ...], fields: Mapping[str, FieldHead], settings: StreamSettings
) -> list[TargetKind]:
    if task in ONE:
        if len(names) > 1:
            several = next(t for t, kind in SEVERAL.items() if kind == ONE[task])
            raise SettingsError(
                f"stream.task is {task}, which has one target, but {len(names)} are named; use {several}, or one target"
            )
        return [ONE[task]]  # type: ignore[list-item]
    if task in SEVERAL:
        return [SEVERAL[task]] * len(names)  # type: ignore[list-item]
    if task == "auto" and len(names) > 1 and all(name in fields and _is_flag(fields[name]) for name in names):
        return ["binary"] * len(names)
    return [_kind(name, fields.get(name), settings) for name in names]


def _kind(name: str, field: FieldHead | None, settings: StreamSettings) -> TargetKind:
    """Tell what one target is from its first values, where they leave no doubt."""
    stated = settings.kinds.get(name)
    if stated in ("class", "category"):
        return "multiclass"
    if stated in ("value", "number"):
        return "regression"
    if stated in ("boolean", "degree"):
        return "binary"
    if field is None or not field.values:
        raise SettingsError(
            f"stream.task: target {name!r} has no value at the head of the stream, so its kind is not known; {ASK}"
        )
    if field.kind == "boolean" or _is_flag(field):
        return "binary"
    if field.kind == "category":
        return "multiclass"
    if field.kind == "integer":
        if len(field.values) == 2:
            return "binary"
        shown = ", ".join(str(v) for v in field.values[:6]) + (", ..." if len(field.values) > 6 else "")
        raise SettingsError(
            f"stream.task: target {name!r} holds whole numbers ({shown}), which may be quantities or classes; {ASK}"
        )
    if field.kind == "number":
        return "regression"
    raise SettingsError(f"stream.task: target {name!r} holds moments, which cannot be predicted; name another field")


def _name(kinds: list[TargetKind]) -> Name:
    distinct = set(kinds)
    if len(kinds) == 1:
        return kinds[0]
    if distinct == {"binary"}:
        return "multilabel"
    if distinct == {"regression"}:
        return "multitarget"
    return "mixed" if "regression" in distinct else "multioutput"


def _is_flag(field: FieldHead) -> bool:
    """Tell whether all values seen are 0/1 or false/true."""
    flags = {"0", "1", "0.0", "1.0", "false", "true"}
    return bool(field.values) and all(str(v).lower() in flags for v in field.values)


def _two(field: FieldHead) -> tuple[Label, ...]:
    """The two classes of a binary target in ascending order, so that the positive one comes second; () if not known."""
    if _is_flag(field) and field.kind == "boolean":
        return (False, True)
    if _is_flag(field):
        return (0, 1)
    values = [v for v in field.values if isinstance(v, (str, int))]
    return tuple(sorted(values, key=lambda v: (isinstance(v, str), v))) if len(values) == 2 else ()


def _listed(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
