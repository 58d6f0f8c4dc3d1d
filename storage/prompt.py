"""Prompt templates: plain `{name}` fields and nothing more.

Attribute access, indexing, conversions and format specifications are refused, so
that a template can only ever show the fields it names, and never the gold answer.
"""

import string
from collections.abc import Collection

GOLD_FIELD = "answer"


def check_template(template: str, fields: Collection[str] = (), gold: str = GOLD_FIELD) -> None:
    """Raise ValueError unless the template names plain fields only, and of `fields` only where those are given."""
    names = template_fields(template)
    if not names:
        raise ValueError(f"prompt {template!r} shows no field of the problem; every prompt would be the same.")
    for name in names:
        if name in (GOLD_FIELD, gold):
            raise ValueError(f"prompt {template!r} shows the gold answer; take {{{name}}} out.")
        if fields and name not in fields:
            raise ValueError(f"prompt {template!r} names {{{name}}}; the fields are {', '.join(sorted(fields))}.")


def template_fields(template: str) -> list[str]:
    """The fields that a template shows, in order. Raises ValueError where it holds anything but plain names."""
    return [_plain_name(template, *part) for part in _parse(template) if part[0] is not None]


def _parse(template: str) -> list[tuple[str | None, str | None, str | None]]:
    try:
        return [part[1:] for part in string.Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"prompt {template!r} is no template: {error}. Write {{{{ and }}}} for braces.") from error


def _plain_name(template: str, name: str | None, spec: str | None, conversion: str | None) -> str:
    if not name or not name.isidentifier() or spec or conversion:
        raise ValueError(f"prompt {template!r} holds {{{name}}}; only plain names in braces are read, as {{question}}.")
    return name
