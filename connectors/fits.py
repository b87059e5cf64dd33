"""Whether the description of the fields fits a stream whose fields are known."""

import difflib

from connectors.errors import SchemaError
from connectors.schema import Schema


def check_fields(fields: tuple[str, ...], schema: Schema) -> None:
    """See that what is declared is there, and that nothing else is where that is not allowed.

    Raises:
        SchemaError: it is not so.
    """
    for name in (*schema.declared, *schema.targets):
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            shown = ", ".join(fields[:20]) + (", ..." if len(fields) > 20 else "")
            raise SchemaError(f"field {name!r} is declared, but the stream has {shown}.{hint}")
    if schema.extra == "reject":
        unknown = [name for name in fields if schema.kind(name) is None and name not in schema.ignore]
        if unknown:
            raise SchemaError(
                f'the stream has fields {unknown[:20]} that are not declared, and extra is "reject"; declare them, or'
                " set extra to ignore"
            )
