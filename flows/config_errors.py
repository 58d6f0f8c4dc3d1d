"""What is wrong with settings, in words: where it was given, what was expected, what is near.

A schema says which sections there are, and of each the keys with their annotated types.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.config_layers import NO_SETTINGS, PREFIX, SEPARATOR, Given, show

Schema = Mapping[str, Mapping[str, Any]]
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def describe_type(annotation: Any) -> str:
    """What a setting of this type may be: a whole number, "stop" or "search_harder"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return TYPES[annotation]
    if origin is dict:
        return "a table"
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin is Literal:
        return " or ".join(map(show, arguments))
    return " or ".join(describe_type(argument) for argument in arguments if argument is not NoneType)


def find_misnamed(given: Given, schema: Schema) -> str | None:
    """What is wrong with a setting's name, if anything is."""
    if given.section not in schema:
        return f"{given.origin}: there is no section {given.section!r}{suggest_section(given, schema)}"
    keys = schema[given.section]
    if not given.key:
        return f"{given.origin}: {given.section} lacks a key; expected section.key = value, as search.samples = 16."
    if given.key in keys:
        return None
    where = f" where {given.section}.kind is {describe_type(keys['kind'])}" if "kind" in keys else ""
    return f"{given.origin}: there is no {given.name}{where}{suggest_key(given, schema)}"


def name_stranger(variable: str, schema: Schema) -> str:
    """What is wrong with an environment variable that is none of ours."""
    settings = [f"{section}{SEPARATOR}{key}".upper() for section, keys in schema.items() for key in keys]
    known = [*(name.removeprefix(PREFIX) for name in NO_SETTINGS), *settings]
    nearest = get_close_matches(variable.removeprefix(PREFIX), known, n=1)
    fix = f"did you mean {PREFIX}{nearest[0]}?" if nearest else f"expected {PREFIX}SECTION{SEPARATOR}KEY, or unset it."
    return f"{variable}: there is no such variable; {fix}"


def suggest_section(given: Given, schema: Schema) -> str:
    """The end of a sentence: the settings of that name where only a key was said, else the nearest section."""
    found = [] if given.key else find_key(given.section, schema)
    return f"; did you mean {' or '.join(found)}?" if found else suggest(given.section, schema)


def suggest_key(given: Given, schema: Schema) -> str:
    """The end of a sentence: the nearest key of the section, else the same key of others."""
    keys, found = schema[given.section], find_key(given.key, schema)
    is_elsewhere = found and not get_close_matches(given.key, keys)
    return f"; did you mean {' or '.join(found)}?" if is_elsewhere else suggest(given.key, keys)


def find_key(key: str, schema: Schema) -> list[str]:
    """The settings of that key, in any section."""
    return [f"{section}.{key}" for section, keys in schema.items() if key in keys]


def suggest(word: str, choices: Iterable[str]) -> str:
    """The end of a sentence: the nearest choice, or all where none is near."""
    nearest = get_close_matches(word, choices, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f"; there are {', '.join(choices)}."


def explain(error: ValidationError, known: Mapping[str, Given], schema: Schema) -> Iterator[str]:
    """A line for each reason of pydantic's, with the place where its cause was given."""
    for reason in error.errors():
        match reason["loc"]:
            case ():
                yield from str(reason["ctx"]["error"]).splitlines()
            case (str(section),) if reason["type"].startswith("union_tag"):
                yield explain_kind(known[f"{section}.kind"], reason)
            case (str(section), *_, str(key)) if f"{section}.{key}" in known:
                yield explain_value(known[f"{section}.{key}"], schema)
            case (str(section), *_, str(key)) if key in schema[section]:
                yield explain_missing(section, key, known, schema)
            case (section, *_):
                yield explain_section(str(section), reason, known)


def explain_value(given: Given, schema: Schema) -> str:
    """A value of the wrong type."""
    expected = describe_type(schema[given.section][given.key])
    return f"{given.origin}: {given.name} is {show(given.value)}; expected {expected}."


def explain_kind(given: Given, reason: ErrorDetails) -> str:
    """A kind that does not exist."""
    kinds = reason["ctx"]["expected_tags"].replace("'", '"')
    return f"{given.origin}: {given.name} is {show(given.value)}; expected one of {kinds}."


def explain_missing(section: str, key: str, known: Mapping[str, Given], schema: Schema) -> str:
    """A setting that has no default and was not given."""
    annotation = schema[section][key]
    origin = known[f"{section}.kind"].origin
    return f"{origin}: {section}.{key} is missing; expected {describe_type(annotation)}: {annotation.__metadata__[0]}"


def explain_section(section: str, reason: ErrorDetails, known: Mapping[str, Given]) -> str:
    """What the settings of a section say themselves, and where those that they name were given."""
    text = str(reason["ctx"]["error"]) if "ctx" in reason else reason["msg"]
    inside = [given for given in known.values() if given.section == section]
    named = [given for given in inside if re.search(rf"\b{given.key}\b", text)]
    origins = dict.fromkeys(given.origin for given in named or inside)
    return f"{', '.join(origins)}: in [{section}], {text.rstrip('.')}."
