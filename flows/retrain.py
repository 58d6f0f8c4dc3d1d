"""A retrain: a candidate from trajectories that someone chose, measured and gated as a round's is.

It searches nothing and is no round: it comes between two, and leaves the filter's decisions as they are.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from prefect import flow

from flows.commands import show_evaluation
from flows.config import Config, amend, from_json, to_json
from flows.config_layers import ConfigError, read_sets
from flows.interrupt import interruptible
from flows.page import cancelled_when_stopped, put_on_page
from flows.round import judge, make_candidate, prepared
from flows.runs import RunError, publish
from flows.stages import Stages, watcher
from models.learning.settings import CLONING
from models.search.settings import SearchSettings
from storage import history
from storage.home import Home
from storage.picks import is_instead, pick, read_selection
from storage.records import Evaluation, Kind, Promotion, Run, State, make_id, now
from storage.warehouse import Warehouse
from tasks.pick import choose
from tasks.turn import Turn

SECTIONS = ("run", "policy", "learning", "gate", "evaluation")
"""Whose settings a retrain obeys; the others made what it trains on."""
OF_ROUNDS = ("learning.fade", "learning.window", "learning.warm_up_rounds")
"""Settings that say what a round trains on; a retrain is told that."""
IDLE = (
    *("run.rounds", "run.shard_problems", "run.runner", "run.workers", "run.plateau_after", "run.on_plateau"),
    *("policy.model", "policy.chat"),
)
"""Settings of how rounds go on and search, and of the initial policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrained:
    """What a retrain came to."""

    num_examples: int
    objective: str
    candidate: Evaluation
    promotion: Promotion


def begin_retrain(home: Home, selection: str, sets: list[str], say: Callable[[str], object]) -> Run:
    """The same retrain where it is unfinished and no round came since, else a new one.

    It is under the last run's settings and these changes.
    What a person should know of the selection is said. Raises ValueError where there is nothing to retrain, or the
    selection names what may not train.
    """
    warehouse = Warehouse(home)
    last = history.last_run(warehouse)
    if last is None or not has_policy(home, last):
        raise RunError(f"there is no policy in {home.root} to retrain yet; `flywheel run` makes the first.")
    config, query = amend_learning(from_json(last.config), sets), read_selection(home, selection)
    if is_instead(home, selection):
        say(f"{selection.strip()} is your own here, from {home.queries}, not the one that comes along.")
    round = history.next_round(warehouse, last.line) - 1
    before = history.last_run(warehouse, Kind.RETRAIN)
    if before and before.state == State.RUNNING:
        if (before.query, before.config, before.first_round) == (query, to_json(config), round):
            return before
        publish(home, before, State.ABANDONED)
    pick(warehouse, line=last.line, query=query, objective=config.learning.objective)
    run = Run(
        run_id=make_id("retrain", last.line, round, history.num_runs(warehouse)),
        kind=Kind.RETRAIN,
        line=last.line,
        state=State.RUNNING,
        first_round=round,
        num_rounds=0,
        query=query,
        config=to_json(config),
        version=version("flywheel"),
        started_at=now(),
    )
    return publish(home, run, State.RUNNING)


def has_policy(home: Home, run: Run) -> bool:
    """Whether a run's line has its initial policy."""
    turn = Turn(root=home.root, line=run.line, run_id=run.run_id, round=0, seed=0)
    return turn.lake.has("rounds", turn.key)


def amend_learning(config: Config, sets: list[str]) -> Config:
    """The settings with changes to those that a retrain obeys. Raises ConfigError."""
    for given in read_sets(sets):
        if given.section not in SECTIONS:
            raise ConfigError(
                f"--set: {given.name} would do nothing in a retrain, which obeys {', '.join(SECTIONS)}. Take it out."
            )
        if given.name in IDLE:
            raise ConfigError(
                f"--set: {given.name} would do nothing in a retrain, which trains the champion. Take it out."
            )
        if given.name in OF_ROUNDS:
            raise ConfigError(f"--set: {given.name} would do nothing in a retrain, which is told what it trains on.")
    of_trees = config.model_copy(update={"search": SearchSettings(strategy="mcts")})  # as what is picked may be
    return amend(of_trees, ["learning.warm_up_rounds=0", *sets]).model_copy(update={"search": config.search})


def last_objective(home: Home) -> str:
    """What the last run learnt by; cloning before the first."""
    last = history.last_run(Warehouse(home))
    return from_json(last.config).learning.objective if last else CLONING


@flow(name="retrain", flow_run_name="retrain {run_id}")
@cancelled_when_stopped
def retrain(home: Path, run_id: str) -> Retrained:
    """Do what is left of a retrain."""
    with interruptible():  # here too, for prefect takes SIGTERM for itself
        retrained = finish_retrain(home, run_id)
        watcher().say(conclude_retrain(retrained))
        put_on_page(Home(home), conclude_retrain(retrained))
        return retrained


def finish_retrain(home: Path, run_id: str) -> Retrained:
    """The same, outside Prefect's hands."""
    run = history.find_run(Warehouse(Home(home)), run_id)
    config = from_json(run.config)
    turn = Turn(
        root=home, line=run.line, run_id=run_id, round=run.first_round, seed=config.run.seed, purpose=Kind.RETRAIN
    )
    stages = Stages.of(turn, config)
    with stages("pick"):
        selection_id = prepared(choose, "retrain · pick", config)(turn, run.query, config.learning.objective)
    with stages("finetune"):
        champion_id, learning = turn.registry.champion(turn.line), config.learning.refined()
        candidate_id = make_candidate(turn, champion_id, selection_id, learning, config)
    promotion, candidate = judge(turn, candidate_id, stages, config)
    publish(Home(home), run, State.FINISHED)
    made = turn.registry.find(candidate_id)
    return Retrained(num_examples=made.num_examples, objective=made.objective, candidate=candidate, promotion=promotion)


def conclude_retrain(retrained: Retrained) -> str:
    """The verdict, with the candidate's accuracy."""
    what = {CLONING: "solutions", "dpo": "pairs"}.get(retrained.objective, "attempts")
    return "\n".join(
        [
            "",
            f"The candidate learnt from {retrained.num_examples:,} {what} and is "
            f"{retrained.promotion.verdict}: {retrained.promotion.reason}.",
            f"  candidate  {show_evaluation(asdict(retrained.candidate))}",
        ]
    )
