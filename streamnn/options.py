"""The constants of a method as users give them: a name and a number each, checked against what the method has."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One constant of a method.

    Attributes:
        default: value where the user gives none.
        low, high: legal range, both ends included.
        whole: only whole numbers are legal.
        about: what it does, for documentation.
    """

    default: float
    low: float
    high: float
    whole: bool = False
    about: str = ""


def choose(what: str, name: str, known: Mapping[str, Mapping[str, Option]]) -> Mapping[str, Option]:
    """Return the constants of the method `name`.

    Args:
        what: what is chosen, for the message ("drift detector").
        name: of the method.
        known: method -> its constants.

    Raises:
        ValueError: there is no such method.
    """
    if name not in known:
        raise ValueError(f"{what} is {name!r}; use one of {', '.join(known)}.{_nearest(name, known)}")
    return known[name]


def settle(owner: str, given: Mapping[str, float], known: Mapping[str, Option]) -> dict[str, float]:
    """Return every constant: the given ones where there are any, else the defaults.

    Args:
        owner: whose constants they are, for messages ("drift detector adwin").
        given: name -> value.
        known: name -> what is legal.

    Raises:
        ValueError: a name is unknown or a value is not a legal number.
    """
    for name, value in given.items():
        if name not in known:
            legal = f"use {', '.join(known)}" if known else "it has none"
            raise ValueError(f"{owner} has no option {name!r}; {legal}.{_nearest(name, known)}")
        option = known[name]
        whole = not option.whole or float(value).is_integer()
        if not (option.low <= value <= option.high and whole):
            kind = "a whole number" if option.whole else "a number"
            raise ValueError(
                f"{owner}: {name} is {value}, but must be {kind} from {option.low:g} to {option.high:g} "
                f"(default {option.default:g})"
            )
    return {name: float(given.get(name, option.default)) for name, option in known.items()}


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean {near[0]}?" if near else ""
