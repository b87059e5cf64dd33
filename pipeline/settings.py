"""Settings from a TOML file, the environment and `--set`, checked and turned into frozen dataclasses.

In: a dataclass whose fields are made with `setting` (or are such dataclasses themselves: a section), and values from
three places, the later ones winning: the file, the environment (STREAMNN_SECTION__KEY), `--set section.key=value`.
Out: an instance, or one `SettingsError` that names place, key, value and expectation.
"""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

PREFIX = "STREAMNN_"

C = TypeVar("C")


class SettingsError(ValueError):
    """A configuration cannot be used; the message is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody gave.

    Attributes:
        value: as TOML has it, or text.
        where: for messages, such as `config.toml` or `--set`.
        text: whether it is text still to be understood.
    """

    value: Any
    where: str
    text: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """One key for people: its dotted name, what it may be, its default, its meaning."""

    key: str
    expects: str
    default: Any
    doc: str


def setting(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, secret: bool = False
) -> Any:
    """Make a field with a default, a meaning, and a range for numbers (both ends included).

    What is `secret` is never shown, in a report or a listing.
    """
    metadata = {"doc": doc, "low": low, "high": high, "secret": secret}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def read_settings(
    kind: type[C],
    path: Path | None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, Given] | None = None,
) -> C:
    """Read settings from everywhere.

    Args:
        kind: dataclass to make.
        path: TOML file; None = there is none.
        overrides: "section.key=value" each.
        environ: such as os.environ; None = not looked at.
        given: dotted key -> value of a flag of its own; these win over everything.

    Raises:
        SettingsError: a key is unknown, or a value is not what its key expects.
    """
    found: dict[str, Given] = {}
    if path is not None:
        found |= _from_file(kind, path)
    if environ is not None:
        found |= _from_environment(kind, environ)
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign:
            raise SettingsError(f"--set {text}: expected section.key=value, such as --set optimizer.rate=0.01")
        found |= {key.strip(): Given(value.strip(), "--set", text=True)}
    return make(kind, {**found, **(given or {})})


def make(kind: type[C], given: Mapping[str, Given]) -> C:
    """Make an instance from dotted keys; see `read_settings`."""
    known = {d.key for d in describe(kind)}
    for key, value in given.items():
        if key not in known and not any(_is_table(kind, parent) for parent in _parents(key)):
            raise SettingsError(_unknown(value.where, key, known))
    made: C = _make(kind, "", given)
    return made


def describe(kind: type[Any], prefix: str = "") -> list[Described]:
    """List every key of a dataclass of settings, in order."""
    hints, found = get_type_hints(kind), []
    for f in dataclasses.fields(kind):
        hint = hints[f.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found += describe(hint, f"{prefix}{f.name}.")
        else:
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            found.append(Described(prefix + f.name, _expects(hint, f.metadata), default, f.metadata["doc"]))
    return found


def plain(settings: Any) -> dict[str, Any]:
    """Return settings as nested plain values, for reports and checkpoints; what is secret is hidden."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        if dataclasses.is_dataclass(value):
            found[f.name] = plain(value)
        elif f.metadata["secret"] and value:
            found[f.name] = dict.fromkeys(value, "hidden")
        elif isinstance(value, tuple):
            found[f.name] = list(value)
        elif isinstance(value, dict):
            found[f.name] = dict(value)
        else:
            found[f.name] = value
    return found


def _from_file(kind: type[Any], path: Path) -> dict[str, Given]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}. Check the path and its permissions.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error
    return _flatten(kind, table, "", str(path))


def _flatten(kind: type[Any], table: Mapping[str, Any], prefix: str, where: str) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict) and not _is_table(kind, key):
            found |= _flatten(kind, value, f"{key}.", where)
        else:
            found[key] = Given(value, where)
    return found


def _from_environment(kind: type[Any], environ: Mapping[str, str]) -> dict[str, Given]:
    known = {d.key for d in describe(kind)}
    found: dict[str, Given] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        if key in known:
            found[key] = Given(text, name, text=True)
        elif "." in key:
            raise SettingsError(_unknown(name, key, known))
    return found


def _unknown(where: str, key: str, known: set[str]) -> str:
    if any(name.startswith(f"{key}.") for name in known):
        return f"{where}: {key} is a section: write [{key}], and its keys below it."
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        last = key.rpartition(".")[2]
        near = [k for k in sorted(known) if k.rpartition(".")[2] == last][:1]
    hint = f" Did you mean {near[0]}?" if near else " `streamnn config` lists the keys there are."
    return f"{where}: unknown key {key}.{hint}"


def _make(kind: type[Any], prefix: str, given: Mapping[str, Given]) -> Any:
    hints, values = get_type_hints(kind), dict[str, Any]()
    for f in dataclasses.fields(kind):
        key, hint = prefix + f.name, hints[f.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[f.name] = _make(hint, f"{key}.", given)
        elif get_origin(hint) is dict:
            entries = {k[len(key) + 1 :]: g for k, g in given.items() if k.startswith(f"{key}.")}
            if key in given or entries:
                values[f.name] = _table(key, hint, f.metadata, given.get(key), entries)
        elif key in given:
            values[f.name] = _value(key, hint, f.metadata, given[key])
    try:
        return kind(**values)
    except ValueError as error:
        place = next((given[k].where for k in given if k.startswith(prefix)), "configuration")
        raise SettingsError(f"{place}: {prefix.rstrip('.')}: {error}") from error


def _table(
    key: str, hint: Any, metadata: Mapping[str, Any], whole: Given | None, entries: Mapping[str, Given]
) -> dict[str, Any]:
    """Read a dict: given whole, entry by entry, or both."""
    _, kind = get_args(hint)
    found: dict[str, Any] = {}
    if whole is not None:
        value = _parse(whole.value) if whole.text else whole.value
        if not isinstance(value, dict):
            raise _wrong(key, hint, metadata, whole)
        found = {name: _value(f"{key}.{name}", kind, metadata, Given(v, whole.where)) for name, v in value.items()}
    return found | {name: _value(f"{key}.{name}", kind, metadata, g) for name, g in entries.items()}


def _value(key: str, hint: Any, metadata: Mapping[str, Any], given: Given) -> Any:
    value = given.value
    if given.text:
        value = _understand(hint, str(value))
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise _wrong(key, hint, metadata, given)
        (kind, _) = get_args(hint)
        return tuple(_value(key, kind, metadata, Given(item, given.where)) for item in value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise _wrong(key, hint, metadata, given)
        return value
    if hint is object:
        return value
    fits = isinstance(value, hint) and not (hint is not bool and isinstance(value, bool))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value, fits = float(value), True
    if not fits:
        raise _wrong(key, hint, metadata, given)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = metadata["low"], metadata["high"]
        if value != value or (low is not None and value < low) or (high is not None and value > high):
            raise _wrong(key, hint, metadata, given)
    return value


def _understand(hint: Any, text: str) -> Any:
    """Read text as the value of a key: TOML, or bare words where strings are expected."""
    origin = get_origin(hint)
    quoted = text[:1] in ("'", '"')
    if hint is str or origin is Literal:
        return _parse(text) if quoted else text
    if origin is tuple and not text.startswith("["):
        (kind, _) = get_args(hint)
        return [_understand(kind, part.strip()) for part in text.split(",") if part.strip()]
    if hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return _parse(text)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _wrong(key: str, hint: Any, metadata: Mapping[str, Any], given: Given) -> SettingsError:
    near = ""
    if get_origin(hint) is Literal:
        found = difflib.get_close_matches(str(given.value), [str(c) for c in get_args(hint)], n=1)
        near = f" Did you mean {found[0]}?" if found else ""
    shown = "hidden" if metadata["secret"] else repr(given.value)
    return SettingsError(f"{given.where}: {key} is {shown}, expected {_expects(hint, metadata)}.{near}")


def _expects(hint: Any, metadata: Mapping[str, Any]) -> str:
    low, high = metadata.get("low"), metadata.get("high")
    limits = ""
    if low is not None and high is not None:
        limits = f" from {low:g} to {high:g}"
    elif low is not None:
        limits = f" of at least {low:g}"
    elif high is not None:
        limits = f" of at most {high:g}"
    return _name(hint) + limits


def _name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if origin is tuple:
        return f"a list of {_name(get_args(hint)[0]).removeprefix('a ').removeprefix('an ')}s"
    if origin is dict:
        return f"a table of {_name(get_args(hint)[1]).removeprefix('a ').removeprefix('an ')}s"
    names: dict[Any, str] = {
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        object: "value",
    }
    if origin is types.UnionType:
        return " or ".join(_name(part) for part in get_args(hint))
    return names[hint]


def _is_table(kind: type[Any], key: str) -> bool:
    """Tell whether a key is a dict of its own, whose entries are not keys of ours."""
    at: Any = kind
    for part in key.split("."):
        if not (dataclasses.is_dataclass(at) and isinstance(at, type)):
            return False
        at = get_type_hints(at).get(part)
    return get_origin(at) is dict


def _parents(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
