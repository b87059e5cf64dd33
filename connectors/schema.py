"""What the fields of a stream mean, and what the head of a stream shows of it.

In: declarations of the user, or a look at the first records. Out: `Schema`, which every source decodes with.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from connectors.errors import SchemaError

Kind = Literal[
    "number", "integer", "boolean", "category", "moment", "day_first", "month_first", "class", "value", "degree"
]
Extra = Literal["feature", "ignore", "reject"]
KINDS: tuple[str, ...] = get_args(Kind)
MOMENTS: frozenset[Kind] = frozenset({"moment", "day_first", "month_first"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The fields of a stream.

    A field's kind says how its values become a column:

    - number, integer, value: float64, NaN = missing. An infinite value, or (integer) one with a fraction, is refused.
    - boolean: float64 0/1; true, false, yes, no, 0, 1 in any case.
    - category: object of str, None = missing. A number or truth value counts as its text.
    - class: object of str, int or bool (a label, or {label: probability} as a soft label in JSON), None = unknown. In
      text formats a plain whole number (3, -1, 3.0; not 03) is an int and true or false a bool, all else a str.
    - degree: float64 in 0..1: membership in a label; true and false count as 1 and 0.
    - moment: datetime64[us] in UTC; ISO 8601 text (without an offset: UTC), or seconds since 1970 as a number.
    - day_first, month_first: a moment written as 31/12/2018 23:45, or as 12/31/2018 23:45 (/ . or - between; UTC).

    Missing are: nothing, null, NaN and empty text; in text formats also the words null and nan in their usual
    spellings. A field without a kind that is to be a feature has its kind fixed by its first value in an accepted
    record (number,
    boolean for true and false, category); from then on it is read as if declared so.

    Attributes:
        kinds: field name -> kind, for every declared field, targets included.
        targets: names of the fields that are predicted.
        id: field that identifies an event ("" = none); its column is object of str.
        moment: field that holds the event time ("" = none).
        ignore: fields left out.
        extra: what is done with a field that has no kind: "feature" reads it as its own values show (number, category),
            "ignore" leaves it out, "reject" refuses the record.
    """

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    id: str = ""
    moment: str = ""
    ignore: tuple[str, ...] = ()
    extra: Extra = "feature"

    def __post_init__(self) -> None:
        for name, kind in self.kinds.items():
            if kind not in KINDS:
                near = difflib.get_close_matches(str(kind), KINDS, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise SchemaError(f"field {name!r} has kind {kind!r}; use one of {', '.join(KINDS)}.{hint}")
        if self.extra not in get_args(Extra):
            raise SchemaError(f"extra is {self.extra!r}; use feature, ignore or reject")
        clash = set(self.targets) & set(self.ignore)
        if clash:
            raise SchemaError(f"fields {sorted(clash)} are targets and ignored at once; drop one of the two")

    def kind(self, name: str) -> Kind | None:
        """Return the kind a field is read as, None if it has none: id and moment need no declaration."""
        declared = self.kinds.get(name)
        if declared is not None or not name:
            return declared
        return "category" if name == self.id else "moment" if name == self.moment else None

    @property
    def declared(self) -> tuple[str, ...]:
        """Names of all fields that have a kind and are not left out."""
        names = dict.fromkeys((*self.kinds, *(name for name in (self.id, self.moment) if name)))
        return tuple(name for name in names if name not in self.ignore)


@dataclass(frozen=True, slots=True)
class FieldHead:
    """What the first records show of one field.

    Attributes:
        name: of the field.
        kind: number, integer, boolean, category, moment, day_first or month_first, as its values look; category if none was there. A few single
            odd ones out do not change it: those will be refused.
        values: distinct values in order of appearance, as a column of classes would hold them (so text "3" is the int
            3; a fraction, which can be no class, is a float), at most `MOST_VALUES`.
        missing: records without a value.
    """

    name: str
    kind: Kind
    values: tuple[object, ...]
    missing: int


MOST_VALUES = 64


@dataclass(frozen=True, slots=True)
class StreamHead:
    """A look at the first records of a stream.

    Attributes:
        fields: in the order of the stream.
        records: how many records were looked at.
        targets: fields that the stream itself names as its targets (river's datasets and libsvm do); else empty.
        task: what the stream itself says of them: "binary", "multiclass", "multilabel", "regression" or "multitarget";
            else "".
    """

    fields: tuple[FieldHead, ...]
    records: int
    targets: tuple[str, ...] = ()
    task: str = ""
