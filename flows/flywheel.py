"""The flywheel: rounds one after another until the run is done, or the wheel is on a plateau.

Everything it needs to go on is in the lake; Prefect schedules the stages and shows them.
"""

from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.commands import show_evaluation
from flows.config import Config, from_json
from flows.initialize import start_line
from flows.interrupt import interruptible
from flows.page import cancelled_when_stopped, put_on_page
from flows.preflight import look_ahead
from flows.round import gpus_of_round, measure, turn_wheel
from flows.runs import FOREVER, publish
from flows.stages import Stages, watcher
from flows.supply import tell_supply
from flows.waiting import Waiting
from models.evaluation.gate import McNemarGate
from models.policy.load import sampling_gpus
from models.search.settings import open_strategy
from storage import history
from storage.home import Home
from storage.records import Evaluation, Run, Split, State
from storage.warehouse import Warehouse
from tasks.devices import held
from tasks.promote import solved
from tasks.turn import Turn

AT_WORK = "wheel"
"""The file of the home that says which run is at work, also while it gives way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a run comes to, on problems untouched until then."""

    initial: Evaluation
    champion: Evaluation
    is_plateau: bool
    evidence: str
    """Champion against initial policy, paired: `solved 412 that the initial policy did not, and …`."""


def spin(home: Home, run: Run) -> Claim:
    """Turn the wheel to the end of a run, through Prefect, with the task runner that its configuration names."""
    runner = choose_runner(from_json(run.config))
    with home.claim(AT_WORK) as say:
        say(run.run_id)
        return flywheel.with_options(task_runner=runner)(home=home.root, run_id=run.run_id)


def choose_runner(config: Config) -> TaskRunner[Any]:
    """Where search shards run. Raises ValueError for processes on a GPU."""
    if config.run.runner == "processes":
        if sampling_gpus(config.policy):
            raise ValueError(
                'run.runner is "processes", whose engines would keep the GPU while the policy trains: set it to threads'
            )
        return ProcessPoolTaskRunner(max_workers=config.run.workers)
    return ThreadPoolTaskRunner(max_workers=config.run.workers)


@flow(name="flywheel", flow_run_name="run {run_id}")
@cancelled_when_stopped
def flywheel(home: Path, run_id: str) -> Claim:
    """Do what is left of a run."""
    with interruptible():  # here too, for prefect takes SIGTERM for itself
        claim = finish(home, run_id)
        watcher().say(conclude(claim))
        put_on_page(Home(home), conclude(claim))
        return claim


def finish(home: Path, run_id: str) -> Claim:
    """The same, outside Prefect's hands."""
    run = history.find_run(Warehouse(Home(home)), run_id)
    config = from_json(run.config)
    start = Turn(root=home, line=run.line, run_id=run_id, round=0, seed=config.run.seed)
    if not start.lake.has("rounds", start.key):
        tell_supply(run, config)
        start_line(start, config)
    if history.next_round(start.warehouse, run.line) == 1:
        with held(start.home, gpus_of_round(config), watcher().say):
            look_ahead(start, config, run.num_rounds)
    last, is_plateau = turn_until_done(start, run, config)
    claim = make_claim(last, config, is_plateau)
    publish(Home(home), run, State.PLATEAU if is_plateau else State.FINISHED)
    return claim


def turn_until_done(start: Turn, run: Run, config: Config) -> tuple[Turn, bool]:
    """Round after round; gives the last one, and whether the wheel stopped on a plateau, refusals of this run's."""
    for number in count(run.first_round):
        turn = replace(start, round=number)
        refusals = min(history.refusals_in_a_row(turn.warehouse, run.line), number - run.first_round)
        is_plateau = refusals >= config.run.plateau_after and config.run.on_plateau == "stop"
        is_done = run.num_rounds != FOREVER and number == run.first_round + run.num_rounds
        if is_plateau or is_done:
            break
        if not turn.lake.has("rounds", turn.key):
            give_way(turn)
            with held(turn.home, gpus_of_round(config), watcher().say):  # not while it gives way to a retrain
                turn_wheel(turn, choose_effort(turn, config, refusals))
    return replace(start, round=number - 1), is_plateau


def give_way(turn: Turn) -> None:
    """Let a retrain, or whoever else waits to write, go first."""
    turn.home.give_way(Waiting(watcher().say, words=f"{turn.label}  gives way to {{holder}}"))


def choose_effort(turn: Turn, config: Config, refusals: int) -> Config:
    """The settings of a round; that they search harder than was configured is told."""
    chosen = harder(config, refusals)
    if chosen != config:
        effort = open_strategy(chosen.search).label
        words = f"refusals in a row: {refusals}; it searches harder, with {effort} a problem"
        watcher().say(f"{turn.label:<8} {words}")
    return chosen


def harder(config: Config, refusals: int) -> Config:
    """On a plateau, the same with twice the attempts or tokens, and twice again on the next."""
    times = 2 ** (refusals // config.run.plateau_after)
    return config.model_copy(update={"search": config.search.with_budget(config.search.budget * times)})


def make_claim(turn: Turn, config: Config, is_plateau: bool) -> Claim:
    """Measure initial policy and champion on the final problems."""
    lineage = turn.registry.lineage(turn.registry.champion(turn.line))
    stages = Stages.of(turn, config)
    with stages("final"):
        champion = measure(turn, lineage[0].checkpoint_id, Split.FINAL, config)
        initial = measure(turn, lineage[-1].checkpoint_id, Split.FINAL, config)
    compared = McNemarGate(config.gate).decide(solved(turn, champion), solved(turn, initial))
    evidence = (
        f"solved {compared.wins:,} that the initial policy did not, and missed {compared.losses:,} that it did "
        f"(p = {compared.p_value:.2g})"
    )
    return Claim(initial=initial, champion=champion, is_plateau=is_plateau, evidence=evidence)


def conclude(claim: Claim) -> str:
    """The claim, with its size and interval."""
    head = "The wheel is on a plateau." if claim.is_plateau else "The run is done."
    return "\n".join(
        [
            "",
            f"{head} On the final problems, which nothing was trained or chosen on:",
            f"  initial policy  {show_evaluation(asdict(claim.initial))}",
            f"  champion        {show_evaluation(asdict(claim.champion))}",
            f"  the champion {claim.evidence}",
        ]
    )
