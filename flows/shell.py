"""`flywheel sql` without a query: a shell on a terminal, elsewhere the statements of standard input in turn."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import click
import polars as pl
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer
from rich.cells import cell_len

from flows.answers import NOT_FOR_TERMINALS, ask, list_questions, write_answer, write_page
from storage.files import OWNER_ONLY_FILE
from storage.home import Home, HomeError
from storage.warehouse import Warehouse, is_blank, questions, split_statements
from tasks.wording import printable

FORMS = ("table", "csv", "json")
HISTORY = "sql_history"
PROMPT = "flywheel> "
CONTINUED = "     ...> "
GREETING = "A statement ends with a semicolon. Tab completes, .help lists the commands, Ctrl-D leaves."
PAGER_OPTIONS = "-S"
"""For `less`, where LESS says nothing: long lines are cut, the arrows move along them."""


@dataclass
class Shell:
    """What the commands and statements do; `show` and `say` say where to."""

    home: Home
    form: str
    timeout_s: float
    show: Callable[[pl.DataFrame, str], None]
    say: Callable[[str], None]

    def do(self, text: str) -> None:
        """A command or a statement. Raises ValueError for what is wrong with it, EOFError to leave."""
        if is_command(text):
            self.obey(text)
        elif not is_blank(text):
            self.show(ask(self.home, text, self.timeout_s), self.form)

    def obey(self, line: str) -> None:
        """A command: `.schema runs`."""
        name, *arguments = line.rstrip("; \n").split()
        if name not in COMMANDS:
            raise ValueError(f"there is no command {name}; .help lists them.")
        command = COMMANDS[name]
        if not command.fewest <= len(arguments) <= len(command.usage.split()):
            raise ValueError(f"expected {name} {command.usage}".rstrip() + ".")
        command.run(self, *arguments)

    def help(self) -> None:
        """What can be typed."""
        usages = {f"{name} {command.usage}": command.text for name, command in COMMANDS.items()}
        self.say("\n".join([*(f"{usage:<26} {text}" for usage, text in usages.items()), "", GREETING]))

    def tables(self) -> None:
        """What there is to ask about."""
        described = Warehouse(self.home).describe().unique("table", maintain_order=True)
        self.say("\n".join(f"{table:<20} {about}" for table, about in described.select("table", "about").iter_rows()))

    def schema(self, table: str | None = None) -> None:
        """Columns, with their types and what they mean."""
        described = Warehouse(self.home).describe().partition_by("table", as_dict=True, maintain_order=True)
        tables = {str(name): rows for (name,), rows in described.items()}
        if table is not None and table not in tables:
            raise ValueError(f"there is no table {table}; expected one of {', '.join(tables)}.")
        self.say("\n\n".join(write_schema(rows) for name, rows in tables.items() if table in (None, name)))

    def queries(self) -> None:
        """The questions that have a name."""
        self.say(list_questions(self.home))

    def run(self, name: str) -> None:
        """Ask one of them."""
        self.show(ask(self.home, name, self.timeout_s), self.form)

    def change_form(self, form: str) -> None:
        """How answers are written from here on."""
        if form not in FORMS:
            raise ValueError(NOT_FOR_TERMINALS if form == "parquet" else f"expected one of {', '.join(FORMS)}.")
        self.form = form

    def change_timeout(self, seconds: str) -> None:
        """How long a statement may take from here on."""
        if not re.fullmatch(r"\d{1,6}(\.\d+)?", seconds) or float(seconds) == 0:
            raise ValueError(f"found {seconds}, expected a number of seconds, as 60.")
        self.timeout_s = float(seconds)

    def leave(self) -> None:
        """End."""
        raise EOFError


class Command(NamedTuple):
    """What begins with a full stop."""

    usage: str
    fewest: int
    """Words that it needs."""
    text: str
    run: Callable[..., None]


COMMANDS = {
    ".tables": Command("", 0, "what there is to ask about", Shell.tables),
    ".schema": Command("[TABLE]", 0, "columns, their types and what they mean", Shell.schema),
    ".queries": Command("", 0, "the questions that have a name", Shell.queries),
    ".run": Command("NAME", 1, "ask one of them", Shell.run),
    ".format": Command("|".join(FORMS), 1, "how to write answers", Shell.change_form),
    ".timeout": Command("SECONDS", 1, "how long a statement may take", Shell.change_timeout),
    ".help": Command("", 0, "this", Shell.help),
    ".quit": Command("", 0, "leave", Shell.leave),
}


def open_shell(home: Home, form: str, timeout_s: float) -> None:
    """For people where both ends are terminals, else for programs, who are told of an error by raising it."""
    if form == "parquet":
        raise ValueError(NOT_FOR_TERMINALS)
    if sys.stdin.isatty() and sys.stdout.isatty():
        converse(Shell(home, form, timeout_s, show=lambda answer, form: page(write_page(answer, form)), say=page))
    else:
        follow(Shell(home, form, timeout_s, show=write_answer, say=click.echo), sys.stdin)


def follow(shell: Shell, lines: Iterable[str]) -> None:
    """Do what the lines say, each statement as soon as it is whole."""
    try:
        for text in statements(lines):
            shell.do(text)
    except EOFError:
        return


def converse(shell: Shell) -> None:
    """Ask for statements until there are no more; what is wrong with one is told in a line."""
    session = open_session(shell.home)
    click.echo(GREETING)
    while True:
        try:
            follow_typed(shell, session.prompt(PROMPT))
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
        except (ValueError, OSError, HomeError) as error:
            click.echo(one_line(error), err=True)


def follow_typed(shell: Shell, text: str) -> None:
    """What was typed: a command, or statements. Raises EOFError to leave."""
    for statement in statements(text.splitlines(keepends=True)):
        shell.do(statement)


def statements(lines: Iterable[str]) -> Iterator[str]:
    """Commands, each a line, and statements, each up to its semicolon; the last may lack it."""
    pending = ""
    for line in lines:
        if is_blank(pending) and is_command(line):
            pending = ""
            yield line
        else:
            *whole, pending = split_statements(pending + line)
            yield from whole
    yield pending


def is_command(text: str) -> bool:
    """Whether it is one for the shell, not for the warehouse."""
    return text.lstrip().startswith(".")


def is_whole(text: str) -> bool:
    """Whether Enter should send it, not go on in another line."""
    return is_command(text) or is_blank(split_statements(text)[-1])


def write_schema(described: pl.DataFrame) -> str:
    """A table with its columns."""
    lines = [f"    {column:<18} {kind:<26} {text}" for _, _, column, kind, text in described.iter_rows()]
    return "\n".join([f"{described['table'][0]}: {described['about'][0]}", *lines])


def one_line(error: Exception) -> str:
    """An error's message without DuckDB's drawing of the place."""
    lines = [line.strip() for line in str(error).partition("\nLINE ")[0].splitlines()]
    return printable(" ".join(line for line in lines if line))


def page(text: str) -> None:
    """Show printable text, through a pager where it does not fit."""
    size, lines = shutil.get_terminal_size(), text.splitlines()
    if len(lines) < size.lines and all(cell_len(line) <= size.columns for line in lines):
        click.echo(text.rstrip("\n"))
    else:
        os.environ.setdefault("LESS", PAGER_OPTIONS)
        click.echo_via_pager(text, color=False)


def open_session(home: Home) -> "PromptSession[str]":
    """Where people type."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        if is_whole(event.current_buffer.text):
            event.current_buffer.validate_and_handle()
        else:
            event.current_buffer.insert_text("\n")

    return PromptSession(
        history=open_history(home),
        completer=Words(home),
        complete_while_typing=False,
        key_bindings=bindings,
        lexer=PygmentsLexer(SqlLexer),
        multiline=True,
        prompt_continuation=CONTINUED,
    )


def open_history(home: Home) -> History:
    """What was typed, kept in the home; for this time only where the home is not ours to write to."""
    path = home.root / HISTORY
    try:
        path.touch(OWNER_ONLY_FILE)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


class Words(Completer):
    """Completes what may stand at the cursor: commands and what they take, tables, columns, words of SQL."""

    def __init__(self, home: Home) -> None:
        self.home = home
        described = Warehouse(home).describe().partition_by("table", as_dict=True, maintain_order=True)
        self.columns = {str(table): rows["column"].to_list() for (table,), rows in described.items()}
        columns = dict.fromkeys(column for columns in self.columns.values() for column in columns)
        self.words = [*self.columns, *columns, *Warehouse(home).keywords()]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """As prompt_toolkit asks for them."""
        before = document.text_before_cursor
        word = re.search(r"\S*$" if is_command(before) else r"\w*$", before)
        assert word
        for choice in self.choices(before):
            if choice.lower().startswith(word[0].lower()):
                yield Completion(choice, start_position=-len(word[0]))

    def choices(self, before: str) -> Iterable[str]:
        """What may stand after a text, whose last word may have begun."""
        if is_command(before):
            name, *arguments = before.split(maxsplit=1)
            return self.arguments(name) if arguments or before.endswith(" ") else COMMANDS
        table = re.search(r"(\w+)\.\w*$", before)
        return self.columns.get(table[1], []) if table else self.words

    def arguments(self, command: str) -> Iterable[str]:
        """What a command takes."""
        taken: dict[str, Iterable[str]] = {".schema": self.columns, ".run": questions(self.home), ".format": FORMS}
        return taken.get(command, ())
