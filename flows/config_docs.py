"""Writes what there is to configure: flywheel.toml, and the tables of docs/configuration.md.

`python -m flows.config_docs` makes both from the settings themselves; a test fails when they are stale.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flows.config import COUNTDOWN, PRETRAINED, schema, section_types
from flows.config_errors import describe_type
from storage.problems import KINDS

ROOT = Path(__file__).resolve().parents[1]
TOML = ROOT / "flywheel.toml"
DOCS = ROOT / "docs" / "configuration.md"
COMMAND = "python -m flows.config_docs"
MARKER = f"<!-- What follows is written by `{COMMAND}`. -->\n"
EXAMPLES = {
    "reasoning_gym.dataset": "chain_sum",
    "file.path": "train.jsonl",
    "file.difficulty_column": "level",
    "file.benchmark_path": "test.jsonl",
    "hub.dataset": "openai/gsm8k",
    "hub.difficulty_column": "level",
    "hub.benchmark_split": "test",
}
"""What flywheel.toml shows for a setting without a default, of a kind of problems."""
HEAD = """\
# What may be chosen, and its default; a setting that is left out has it too. docs/configuration.md says more.
# Later wins: this file, FLYWHEEL_SEARCH__SAMPLES=16 in the environment, `--set search.samples=16`.
# Commented out are settings whose default depends on problems.kind, or on whether policy.model is pretrained.
"""


class Entry(NamedTuple):
    """A setting as it is documented."""

    key: str
    type: str
    default: Any
    """None where there is none."""
    text: str
    is_fixed: bool
    """Whether the default is the same whatever else is chosen."""


def read_purpose(settings: type[Any]) -> str:
    """What a section is for: its docstring without the example."""
    return str(settings.__doc__).partition(": `")[0].rstrip(".") + "."


def read_entries(section: str, kind: str = COUNTDOWN) -> Iterator[Entry]:
    """The settings of a section, in order."""
    for field in dataclasses.fields(section_types(kind)[section]):
        annotation = schema(kind)[section][field.name]
        pretrained = PRETRAINED.get(section, {}).get(field.name)
        yield Entry(
            key=field.name,
            type=describe_type(annotation).removeprefix("a "),
            default=read_default(field),
            text=annotation.__metadata__[0] + ("" if pretrained is None else f" Pretrained policies: {pretrained}."),
            is_fixed=pretrained is None and f"{section}.{field.name}" != "problems.prompt",
        )


def read_default(field: dataclasses.Field[Any]) -> Any:
    """A setting's default, paths as text; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def write_toml() -> str:
    """flywheel.toml."""
    parts = [HEAD]
    for section, settings in section_types().items():
        parts.append(write_section(section, settings, COUNTDOWN, is_example=False))
        if section == "problems":
            parts += [write_section(section, KINDS[kind].settings, kind, is_example=True) for kind in others()]
    return "\n".join(parts)


def others() -> list[str]:
    """The kinds of problems beside the default."""
    return [kind for kind in KINDS if kind != COUNTDOWN]


def write_section(section: str, settings: type[Any], kind: str, is_example: bool) -> str:
    """A section of flywheel.toml; an example of another kind of problems is commented out."""
    title = ("# Or, in place of the section above: " if is_example else "# ") + read_purpose(settings)
    lines = [write_setting(entry, kind, is_example) for entry in read_entries(section, kind)]
    return "\n".join([title, "# " * is_example + f"[{section}]", *align(lines)]) + "\n"


def write_setting(entry: Entry, kind: str, is_example: bool) -> tuple[str, str]:
    """A setting of flywheel.toml, and its text."""
    value = EXAMPLES[f"{kind}.{entry.key}"] if entry.default is None else entry.default
    is_live = entry.is_fixed and not is_example
    choices = f" {entry.type}." if " or " in entry.type else ""
    return "# " * (not is_live) + f"{entry.key} = {json.dumps(value)}", f"# {entry.text}{choices}"


def align(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Rows of two columns as lines, the second columns one under the other."""
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    return [f"{left:<{width}}  {right}" for left, right in rows]


def write_tables() -> str:
    """The generated part of docs/configuration.md."""
    parts = []
    for section, settings in section_types().items():
        parts.append(f"## {section}\n\n{read_purpose(settings)}\n\n{write_table(section, COUNTDOWN)}")
        if section == "problems":
            parts += [write_kind(kind) for kind in others()]
    return "\n".join(parts)


def write_kind(kind: str) -> str:
    """The settings of another kind of problems."""
    return f'### problems.kind = "{kind}"\n\n{read_purpose(KINDS[kind].settings)}\n\n{write_table("problems", kind)}'


def write_table(section: str, kind: str) -> str:
    """A section as a table."""
    rows = [("key", "type", "default", ""), ("---",) * 4, *map(write_row, read_entries(section, kind))]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def write_row(entry: Entry) -> tuple[str, ...]:
    """A setting as a row of a table."""
    default = "–" if entry.default is None else f"`{json.dumps(entry.default)}`"
    return f"`{entry.key}`", entry.type, default, entry.text


def write_docs(old: str) -> str:
    """docs/configuration.md with new tables behind what people wrote."""
    return old.partition(MARKER)[0] + MARKER + "\n" + write_tables()


if __name__ == "__main__":
    TOML.write_text(write_toml(), encoding="utf-8")
    DOCS.write_text(write_docs(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
