"""Settings as people give them: in a file, in the environment, with --set, the later winning.

Nothing is checked here but that it can be read: flows/config.py knows the settings.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from storage.home import HOME_VARIABLE
from tasks.child import OWN_SERVER_VARIABLE

DEFAULT_FILE = Path("flywheel.toml")
PREFIX = "FLYWHEEL_"
SEPARATOR = "__"
SERVED_VARIABLE = "FLYWHEEL_SERVE"
"""JSON of the --config and --set that `flywheel serve` was given, for the flow runs it starts."""
NO_SETTINGS = (
    HOME_VARIABLE,
    SERVED_VARIABLE,
    OWN_SERVER_VARIABLE,
    "FLYWHEEL_REQUIRE",
    "FLYWHEEL_SERVER_KEY",
    "FLYWHEEL_DATA",
)
"""Variables that say something else: where the home is, what the tests insist on, where benchmarks find data."""
SHOWN_CHARS = 60
BARE_POINT = re.compile(r"[+-]?\.\d+")
"""A number as people write it and TOML does not."""


class ConfigError(ValueError):
    """The configuration cannot be used; a line for each reason."""


class Given(NamedTuple):
    """A setting as given: `Given("search", "samples", 16, "--set")`; the key is empty where none was said."""

    section: str
    key: str
    value: Any
    origin: str

    @property
    def name(self) -> str:
        """As in --set: search.samples."""
        return f"{self.section}.{self.key}"


def read_layers(path: Path | None, sets: Sequence[str], environ: Mapping[str, str]) -> dict[str, Given]:
    """Name to setting, from all three. Raises ConfigError where one cannot be read."""
    every = [*read_file(path), *read_environment(environ), *read_sets(sets)]
    return {given.name: given for given in every}


def read_file(path: Path | None) -> Iterator[Given]:
    """The settings in a TOML file, ./flywheel.toml by default. Raises ConfigError where it cannot be read."""
    if path is None and not DEFAULT_FILE.exists():
        return
    path = path or DEFAULT_FILE
    for section, content in read_toml(path).items():
        settings = content if isinstance(content, dict) else {"": content}
        yield from (Given(section, key, value, str(path)) for key, value in settings.items())


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises ConfigError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; name one that exists, or none for the defaults.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a TOML file.") from error
    except ValueError as error:  # of TOML, with line and column, or of UTF-8
        raise ConfigError(f"{path}: is not TOML: {error}.") from error


def read_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    """The settings among environment variables: FLYWHEEL_SEARCH__SAMPLES=16, but not FLYWHEEL_HOME."""
    for variable, text in environ.items():
        section, separator, key = variable.removeprefix(PREFIX).lower().partition(SEPARATOR)
        if variable.startswith(PREFIX) and separator:
            yield Given(section, key, read_value(text), variable)


def is_asked(name: str, sets: Sequence[str], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a setting is given for this command, by --set or the environment, and not by a file for all."""
    return any(given.name == name for given in (*read_environment(environ), *read_sets(sets)))


def find_strangers(environ: Mapping[str, str]) -> list[str]:
    """The variables that begin as ours do, and are neither a setting nor another of ours."""
    ours = (variable for variable in environ if variable.startswith(PREFIX) and SEPARATOR not in variable)
    return [variable for variable in ours if variable not in NO_SETTINGS]


def read_sets(sets: Sequence[str]) -> Iterator[Given]:
    """The settings of --set: search.samples=16. Raises ConfigError where one has no `=`."""
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: the = is missing; expected SECTION.KEY=VALUE, as search.samples=16.")
        section, _, key = name.strip().partition(".")
        yield Given(section, key.strip(), read_value(value.strip()), "--set")


def read_value(text: str) -> Any:
    """A TOML value, or the text itself where it is none, as a bare word is; .5 is a number here."""
    if BARE_POINT.fullmatch(text):
        return float(text)
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if found.keys() == {"value"} else text


def show(value: object) -> str:
    """A value as people write it, and not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
