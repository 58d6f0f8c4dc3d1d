"""What the short commands do, and how they say it. No prefect."""

import getpass
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.config import Config, from_json
from flows.runs import RunError
from models.search.best_of_n import GREEDY
from models.search.tree import Node
from storage import history
from storage.curriculum import problems_of
from storage.home import Home
from storage.problems import open_source
from storage.records import Run, Split
from storage.warehouse import Warehouse
from tasks.turn import Turn
from tasks.wording import printable, show_accuracy

if TYPE_CHECKING:
    from flows.thinking import Search


def last_run(home: Home) -> tuple[Run, Config]:
    """The newest run and its configuration. Raises RunError where there was none."""
    run = history.last_run(Warehouse(home))
    if run is None:
        raise RunError(f"nothing was run in {home.root} yet; `flywheel run` begins.")
    return run, from_json(run.config)


def current_turn(home: Home, run: Run, config: Config) -> Turn:
    """The line's last closed round."""
    number = history.next_round(Warehouse(home), run.line) - 1
    return Turn(root=home.root, line=run.line, run_id=run.run_id, round=number, seed=config.run.seed)


def find_checkpoint(turn: Turn, name: str) -> str:
    """The id that champion, initial or the beginning of an id stands for. Raises ValueError where that is not one."""
    if name == "champion":
        return turn.registry.champion(turn.line)
    if name == "initial":
        return turn.registry.lineage(turn.registry.champion(turn.line))[-1].checkpoint_id
    matches = [key for key in turn.lake.keys("checkpoints") if key.startswith(name)]
    if len(matches) > 1:
        raise RunError(
            f"{name!r} begins the ids of {len(matches)} checkpoints, {', '.join(matches)}: write more of one."
        )
    return turn.registry.find(matches[0] if matches else name).checkpoint_id


def evaluate_checkpoint(home: Home, name: str, split: str, search: "Search | None" = None) -> dict[str, Any]:
    """Measure a checkpoint, or read how it did: greedily, or as it thinks with a search."""
    run, config = last_run(home)
    if not config.splits.size(Split(split)):
        raise RunError(
            f"splits.{split} is 0; evaluate on another split, or give a line that reserves some a home of its own: "
            f"FLYWHEEL_HOME=DIR flywheel run --set splits.{split}=500."
        )
    turn = current_turn(home, run, config)
    checkpoint_id = find_checkpoint(turn, name)
    from tasks.evaluate import evaluate  # slow to import

    (first, *_) = problems_of(turn.warehouse, Split(split))
    thinking = search.open(config, first) if search else None
    measured = evaluate.fn(
        turn, checkpoint_id, Split(split), config.policy, config.evaluation, config.problems, thinking
    )
    return asdict(measured)


def show_evaluation(evaluation: dict[str, Any]) -> str:
    """`.656 (95 % .635 to .677, 2,000 problems); pass@8 .91; chance .21`."""
    words = [show_accuracy(evaluation)]
    if evaluation["strategy"] != GREEDY.label:
        tokens = evaluation["num_tokens"] / evaluation["num_problems"]
        words.append(f"{evaluation['strategy']}, {tokens:,.0f} tokens a problem")
    if evaluation["pass_at_8"] is not None:
        words.append(f"pass@8 {evaluation['pass_at_8']:.3f} of {evaluation['num_pass_problems']}")
    if evaluation["chance"] is not None:
        words.append(f"uniform legal play {evaluation['chance']:.3f}")
        words.append(f"brute force needs {evaluation['brute_force']:.0f} walks")
    return "; ".join(words)


def solve_problem(
    home: Home, question: str, search: "Search | None", on_step: Callable[[Node], None] = lambda root: None
) -> dict[str, Any]:
    """The champion's answer to a typed problem."""
    run, config = last_run(home)
    turn = current_turn(home, run, config)
    problem = open_source(config.problems, config.splits).parse(question)
    assert search is not None, "solving without a search is best_of_n(1)"
    thinking = search.open(config, problem)
    from models.memory import WARN  # slow to import
    from models.policy.load import open_engine, sampling_gpus
    from tasks.devices import held
    from tasks.solve import solve

    alone = home.writer() if config.policy.is_joined else nullcontext()  # a keeper serves one checkpoint at a time
    with alone, held(home, sampling_gpus(config.policy), WARN):
        engine = open_engine(turn.registry.open(find_checkpoint(turn, "champion")), config.policy)
        limit = config.policy.max_new_tokens
        return asdict(solve(problem, engine, thinking, max_new_tokens=limit, on_step=on_step))


def show_solution(solution: dict[str, Any]) -> str:
    """Answer, steps and cost."""
    steps = [f"{'step' if number == 1 else '':7} {printable(step)}" for number, step in enumerate(solution["steps"], 1)]
    return "\n".join(
        [
            f"answer  {printable(solution['answer']) or '(none found)'}",
            *steps,
            f"chosen  {solution['why']}",
            f"cost    {solution['strategy']}: {solution['num_samples']} attempts, {solution['num_tokens']:,} tokens",
        ]
    )


def roll_back(home: Home, name: str | None, reason: str) -> str:
    """Make an earlier champion the champion again, and say so."""
    run, config = last_run(home)
    turn = current_turn(home, run, config)
    target = find_checkpoint(turn, name) if name else None
    promotion = turn.registry.rollback(run.line, decided_by=getpass.getuser(), reason=reason, to_checkpoint_id=target)
    return f"champion of {run.line} is {promotion.champion_id} again, instead of {promotion.previous_id}"


def read_history(home: Home) -> list[dict[str, Any]]:
    """A row a round."""
    return history.rounds(Warehouse(home))


def show_history(home: Home) -> str:
    """The rounds as a table, and what people decided besides."""
    rounds, champions = read_history(home), history.champions(Warehouse(home))
    if not rounds:
        return "no round is closed yet; `flywheel run` turns the wheel"
    head = "round  candidate accuracy  95 % interval  pass@8  tokens seconds  verdict"
    table = [show_round(row, is_champion=row["candidate"] in champions) for row in rounds]
    others = [champion for champion in champions if champion not in {row["candidate"] for row in rounds}]
    besides = [*map(show_rollback, history.rollbacks(Warehouse(home))), *map(show_other, others)]
    return "\n".join([head, *table, *besides, *legend(rounds)])


def show_rollback(decision: dict[str, Any]) -> str:
    """`after round 5 rolled back to round 3 by ann: it guesses`."""
    who, why = printable(decision["decided_by"]), printable(decision["reason"])
    return f"after round {decision['round']} rolled back to round {decision['back_to']} by {who}: {why}"


def show_other(champion: str) -> str:
    """A champion that has no row."""
    return f"champion now: {champion[:8]}, the candidate of no closed round"


def show_round(row: dict[str, Any], *, is_champion: bool) -> str:
    """One line of the table."""
    pass_at_8 = "" if row["pass_at_8"] is None else f"{row['pass_at_8']:.3f}"
    verdict = ("promoted" if row["promoted"] else "refused") + (", champion now" if is_champion else "")
    return (
        f"{row['round']:>5}  {row['candidate'][:8]:9} {row['accuracy']:.3f}     {row['low']:.3f} to {row['high']:.3f} "
        f"{pass_at_8:>6}  {row['mean_tokens']:>6.1f} {row['seconds']:>7.1f}  {verdict}: {row['reason']}"
    )


def legend(rounds: list[dict[str, Any]]) -> list[str]:
    """What the numbers are to be held against."""
    last = rounds[-1]
    lines = [
        f"accuracy on {last['num_problems']:,} benchmark problems, which chose the champions: claims are for final"
    ]
    if last["chance"] is not None:
        lines.append(
            f"on the same problems uniform legal play solves {last['chance']:.3f}, "
            f"and brute force needs {last['brute_force']:.0f} walks a problem"
        )
    return lines
