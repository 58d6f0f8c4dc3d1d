"""The command line. Heavy imports wait until a command needs them, so that --help answers at once."""

import atexit
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import reduce
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flows.thinking import Search

if "multiprocessing.spawn" in sys.modules:  # a process of a pool, which reads its parent's program first
    from tasks.child import obey_parent

    obey_parent()

OTHERS = 0o077
"""What we write is not for them."""
WIDTH = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """Commands in the order in which a newcomer meets them; errors as one line that names the fix."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what went wrong for a reason we know is told without a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not isinstance(error, ValueError | OSError) and EXPECTED.isdisjoint(map(name_of, type(error).mro())):
                raise
            message, status = str(error), 130 if type(error).__name__ == "StoppedError" else 1
        # Outside of `except`, so that what the error's frames hold is freed before the interpreter ends.
        click.echo(f"flywheel: {message}", err=True)
        sys.exit(status)


EXPECTED = {
    "HomeError",
    "TrainingError",
    "NoMemoryError",
    "EngineError",
    "ProcessesError",
    "ServerError",
    "StoppedError",
    "WorkersError",
    "BrokenExecutor",
}
"""Errors of other rooms that are told in one line, and kinds of them; by name, for importing them would be slow."""
name_of = attrgetter("__name__")


@click.group(cls=Commands, context_settings=WIDTH)
@click.version_option(package_name="flywheel")
def flywheel() -> None:
    """A data flywheel for reasoning: a policy solves problems by search, what it found is checked and kept, the best of
    it trains the next policy, and a benchmark decides whether that one takes over. Then again.

    \b
    flywheel run                     make a small policy better, here, in minutes
    flywheel history                 what each round came to
    flywheel sql "SELECT reason, count(*) FROM trajectories GROUP BY ALL"
    flywheel solve "4 26 7>15"       let the champion try a problem

    All of it lives in the folder .flywheel, or the one that FLYWHEEL_HOME names. What can be chosen is in
    flywheel.toml, each line with its meaning; --set changes one for one run.
    """


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--config and --set."""
    command = click.option(
        "--set", "sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Change a setting: --set search.samples=16."
    )(command)
    return click.option(
        "--config", "path", type=click.Path(path_type=Path), help="Settings to use instead of flywheel.toml."
    )(command)


def search_options(default: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--search and what it may cost."""
    options = (
        click.option(
            "--search",
            "strategy",
            type=click.Choice(["best_of_n", "mcts", "beam", "dvts"]),
            default=default,
            show_default=default or "greedy",
            help="How it thinks: independent attempts, or a tree of steps.",
        ),
        click.option("--samples", type=click.IntRange(1, 4096), help="Attempts of best_of_n.  [default: 8]"),
        click.option(
            "--budget",
            metavar="BOUNDS",
            help="What a tree may cost: 600 tokens, 40 nodes, 2 s, or several, as '600 tokens, 2 s'.  "
            "[default: 1000 tokens]",
        ),
        click.option(
            "--guide",
            type=click.Choice(["rules", "likelihood", "agreement"]),
            help="What values answers: rules that the problem states (the default where it does), the policy's own "
            "likelihood, or how many answers agree.",
        ),
        click.option(
            "--choose",
            "choice",
            type=click.Choice(["first", "majority", "weighted"]),
            help="Which attempt is given where no rules tell.  [default: majority]",
        ),
    )
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


def read_search(
    strategy: Any, samples: int | None, budget: str | None, guide: str | None, choice: str | None
) -> "Search | None":
    """What the options of a search ask for; None for greedy answers. Raises UsageError for one that does nothing."""
    grows = strategy not in (None, "best_of_n")
    idle = {"--samples": samples and strategy != "best_of_n", "--budget": budget and not grows}
    idle |= {"--guide": guide and strategy is None, "--choose": choice and strategy is None}
    if useless := [option for option, is_idle in idle.items() if is_idle]:
        raise click.UsageError(f"{useless[0]} does nothing with --search {strategy or 'left out'}: leave it out.")
    from flows.thinking import Search
    from models.search.budget import read_budget

    return Search(strategy, samples or 8, read_budget(budget or "1000"), guide, choice) if strategy else None


@flywheel.command()
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of this run, instead of run.rounds.")
@click.option("--forever", is_flag=True, help="Turn until stopped, or until a plateau.")
@click.option("--new-run", is_flag=True, help="Leave an unfinished run as it is and begin another from the champion.")
@config_options
def run(rounds: int | None, forever: bool, new_run: bool, path: Path | None, sets: tuple[str, ...]) -> None:
    """Turn the wheel: finish the unfinished run, else begin another from the champion.

    The first run makes the initial policy. Ctrl-C stops cleanly, and `flywheel run` with the same settings goes on,
    for as many rounds as the run began with; so it does after a crash or a power cut.
    """
    if rounds and forever:
        raise click.UsageError("--rounds and --forever exclude each other: leave one out.")
    from flows.interrupt import interruptible

    with interruptible():
        from flows.config import load_config
        from flows.config_layers import is_asked
        from flows.runs import FOREVER, begin_run

        sets = (*sets, *([f"run.rounds={rounds}"] if rounds else []))
        config = load_config(path, sets)
        asked = config.run.rounds if is_asked("run.rounds", sets) else None
        if asked and forever:
            raise ValueError("run.rounds would do nothing beside --forever: leave one out")
        num_rounds = FOREVER if forever else asked
        home = open_home()
        from flows.orchestrator import settle, start_prefect

        settle(home)  # before torch is imported, whose threads it tells how to wait
        with home.writer():
            begun = begin_run(home, config, num_rounds=num_rounds, is_new=new_run)
            server = start_prefect(home, config.serve.url if config.run.runner == "workers" else "")
            from flows.launch import launch  # takes as long as the server does to start

            sys.exit(launch(home, begun, server))


@flywheel.command()
@click.argument("selection", default="kept")
@click.option(
    "--set", "sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Change a setting: --set learning.epochs=3."
)
def retrain(selection: str, sets: tuple[str, ...]) -> None:
    """Train a candidate on chosen trajectories, as they are in the warehouse, and let the gate decide on it.

    SELECTION is the name of a query or a SELECT that gives their trajectory_id: kept (what the filter keeps, the
    default), newest (of the last round alone), reflective (those that check, correct or propose another way),
    attempts (all of the last round, right and wrong, for the objectives that learn from both), or one of your own in
    the home's folder queries. While a wheel turns, it waits for its place between two rounds.
    The settings are those of the last run; --set changes some.

    \b
    flywheel retrain newest --set learning.epochs=2
    flywheel retrain "SELECT trajectory_id FROM current_selections JOIN trajectories USING (trajectory_id)
                      WHERE kept AND num_tokens < 30"
    """
    from flows.interrupt import interruptible

    with interruptible():
        from flows.waiting import Waiting

        home = open_home(create=False)
        with home.writer(Waiting(click.echo)):
            from flows.orchestrator import start_prefect

            server = start_prefect(home)
            from flows.launch import launch_retrain
            from flows.retrain import begin_retrain

            sys.exit(launch_retrain(home, begin_retrain(home, selection, list(sets), say=click.echo), server))


@flywheel.command()
@click.argument("checkpoint", default="champion")
@click.option(
    "--split",
    type=click.Choice(["benchmark", "final", "development"]),
    default="benchmark",
    show_default=True,
    help="The problems to ask. final is for claims: look at it seldom.",
)
@search_options(default=None)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def evaluate(checkpoint: str, split: str, as_json: bool, **asked: Any) -> None:
    """Measure a CHECKPOINT: champion (the default), initial, or the beginning of an id.

    \b
    flywheel evaluate champion
    flywheel evaluate champion --split development --search mcts --budget 300
    """
    search = read_search(**asked)
    from flows.commands import evaluate_checkpoint, show_evaluation
    from flows.interrupt import interruptible
    from flows.orchestrator import settle

    home = open_home(create=False)
    settle(home)
    with home.writer(), interruptible():
        evaluation = evaluate_checkpoint(home, checkpoint, split, search)
    click.echo(json.dumps(evaluation, default=str) if as_json else show_evaluation(evaluation))


@flywheel.command()
@config_options
def serve(path: Path | None, sets: tuple[str, ...]) -> None:
    """Keep a Prefect server with its UI, where schedules turn the wheel and people press Run, until Ctrl-C.

    Deployments flywheel, retrain, evaluate and rollback are there to run, each with a form. What is scheduled is said
    in flywheel.toml, section serve; what is changed in the UI stays so. Runs and retrains of this home show up there.

    \b
    flywheel serve
    flywheel serve --set serve.cron="0 2 * * *" --set serve.timezone=Europe/Berlin --set serve.rounds=3
    flywheel serve --set serve.interval_s=3600
    """
    from flows.config import load_config

    settings = load_config(path, sets).serve
    home = open_home()
    from flows.orchestrator import ignored, pass_on, serve_prefect

    for line in ignored():
        click.echo(line)
    pass_on(path, sets)
    with suppress(KeyboardInterrupt), serve_prefect(home, settings.port, settings.url) as server:
        from flows.serve import serve as serve_deployments

        click.echo(f"UI    {server.ui}/deployments\nAPI   {server.api}\nHome  {home.root}\nCtrl-C ends it.")
        serve_deployments(home, settings, server)
    click.echo("Stopped. What is scheduled waits for the next `flywheel serve`.")


@flywheel.command()
@click.argument("problem")
@search_options(default="best_of_n")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def solve(problem: str, as_json: bool, **asked: Any) -> None:
    """Let the champion try a PROBLEM, as "4 26 7>15" or "What is 6 times 7?".

    \b
    flywheel solve "4 26 7>15"
    flywheel solve "4 26 7>15" --search mcts --budget 600
    """
    search = read_search(**asked)
    from flows.commands import show_solution, solve_problem
    from flows.orchestrator import settle
    from flows.tree_view import TreeView

    home = open_home(create=False)
    settle(home)
    view = TreeView()
    with nullcontext() if as_json else view.watching():
        solution = solve_problem(home, problem, search, on_step=view.show)
    click.echo(json.dumps(solution) if as_json else show_solution(solution))


@flywheel.command()
@click.argument("checkpoint", required=False)
@click.option("--reason", default="asked for on the command line", help="Why; kept with the decision.")
def rollback(checkpoint: str | None, reason: str) -> None:
    """Make an earlier champion the champion again: the one before, or CHECKPOINT."""
    from flows.commands import roll_back

    home = open_home(create=False)
    with home.writer():
        click.echo(roll_back(home, checkpoint, reason))


@flywheel.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of rounds.")
def history(as_json: bool) -> None:
    """What each round came to: its candidate's accuracy on the benchmark, and whether it took over."""
    from flows.commands import read_history, show_history

    home = open_home(create=False)
    click.echo(json.dumps(read_history(home), default=str) if as_json else show_history(home), color=None)


@flywheel.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page, instead of report/report.html in the home; the picture goes beside it.",
)
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
def report(output: Path | None, is_opened: bool) -> None:
    """Write what the wheel came to as one HTML page and a PNG picture, also while it turns, and say where they are.

    Accuracy by round and promotions, what search solved, time and tokens, what the filter kept, right and wrong
    attempts, and what made the champion.
    """
    from tasks.page import write_report

    page, picture = write_report(open_home(create=False), output)
    click.echo(f"{page}\n{picture}")
    if is_opened:
        import webbrowser

        if not webbrowser.open(page.as_uri()):
            raise ValueError("found no browser to show it in; open the page by hand, or name one in BROWSER.")


@flywheel.command()
@click.argument("query", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How to write the answer.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.001, 1e6),
    default=60.0,
    show_default=True,
    help="Seconds a statement may take.",
)
@click.option("--list", "is_list", is_flag=True, help="List the questions that have a name.")
@click.option("--publish", "is_publish", is_flag=True, help="Bring warehouse.duckdb, for other tools, up to date.")
def sql(query: str | None, form: str, timeout_s: float, is_list: bool, is_publish: bool) -> None:
    """Ask the warehouse in SQL, also while the wheel turns. QUERY is one SELECT, or the name of a question. Without
    QUERY this is a shell; where standard input is no terminal, its statements are answered one after another.

    \b
    flywheel sql "SHOW TABLES"
    flywheel sql "SELECT * FROM history"
    flywheel sql accuracy_by_round
    flywheel sql "SELECT round, avg(solved::INT) FROM trajectories GROUP BY ALL ORDER BY ALL" --format csv
    """
    home = open_home(create=False)
    if is_publish:
        from storage.publish import publish

        with home.writer():
            click.echo(f"published {publish(home)}")
        return
    from flows.answers import ask, list_questions, write_answer

    if is_list:
        click.echo(list_questions(home))
    elif query is not None:
        write_answer(ask(home, query, timeout_s), form)
    else:
        from flows.shell import open_shell

        open_shell(home, form, timeout_s)


def open_home(create: bool = True) -> Any:
    """The home, made where there is none if that is wanted."""
    from storage.home import Home, default_home
    from storage.lake import Lake

    home = Home.open(default_home(), create=create)
    if create:
        Lake(home).seed()
    return home


def main() -> None:
    """The command `flywheel`."""
    os.umask(OTHERS)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ≥ must not end a run
    try:
        flywheel()
    except BaseException as end:
        if not {"prefect", "duckdb"} & sys.modules.keys():
            raise
        if not isinstance(end, SystemExit):
            sys.excepthook(type(end), end, end.__traceback__)
        leave(end.code if isinstance(end, SystemExit) else 1)


def leave(status: Any) -> None:
    """End this process as Python does, but without taking the interpreter apart.

    That takes seconds with all that is loaded, and objects of DuckDB's that something still holds complain aloud.
    Whoever is still impatient ends it at once.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    threading._shutdown()  # type: ignore[attr-defined]  # Prefect sends its last logs in it
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    main()
