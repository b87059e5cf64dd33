"""Bytes in JSON: as text where they are valid UTF-8, else in base64, so that people can read what can be read.

In: bytes, or nothing. Out: `{"text": "..."}`, `{"base64": "..."}` or null, from which the same bytes come back.
"""

import base64
import binascii


def shown(data: bytes | None) -> dict[str, str] | None:
    """Return bytes as plain values for JSON."""
    if data is None:
        return None
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def meant(told: object) -> bytes | None:
    """Return the bytes that `shown` made plain values of.

    Raises:
        ValueError: the values are none that it makes.
    """
    if told is None:
        return None
    match told:
        case {"text": str(text), **rest} if not rest:
            return text.encode()
        case {"base64": str(text), **rest} if not rest:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error as problem:
                raise ValueError(f"{text[:40]!r} is no base64: {problem}") from problem
    raise ValueError(f'expected null, {{"text": ...}} or {{"base64": ...}}, and not {str(told)[:40]}')
