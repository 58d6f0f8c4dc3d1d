"""Chooses the problems of a round: known ones by what they still teach, and new ones from the source."""

from functools import partial

from models.search.settings import SearchSettings
from storage.curriculum import choose_problems, problems_of
from storage.effort import budgets, raise_by
from storage.problems import ProblemSettings, open_source
from storage.records import Draw, Problem, Split
from storage.settings import CurriculumSettings
from storage.sources.source import RanDry, Source, Splits
from tasks.stage import log, stage, warn
from tasks.turn import Turn


@stage("sample")
def sample(
    turn: Turn, problems: ProblemSettings, splits: Splits, curriculum: CurriculumSettings, search: SearchSettings
) -> int:
    """Draws the round's problems; says how many. The same for the same seed and history, however often it is asked."""
    if not turn.lake.has("draws", turn.part):
        turn.lake.publish("draws", turn.part, choose(turn, open_source(problems, splits), curriculum, search))
    draws: list[Draw] = turn.lake.read("draws", turn.part)
    if not turn.lake.has("problems", turn.part):
        new = {draw.problem_id for draw in draws if draw.is_new}
        source = open_source(problems, splits)
        turn.lake.publish("problems", turn.part, [p for p in draw_new(turn, source, len(new)) if p.problem_id in new])
    log(f"{len(draws):,} problems, {sum(draw.is_new for draw in draws):,} of them new")
    return len(draws)


def choose(turn: Turn, source: Source, curriculum: CurriculumSettings, search: SearchSettings) -> list[Draw]:
    """The round's draws, with budgets where search adapts them. Raises ValueError where there is no problem at all."""
    ask = partial(
        choose_problems, turn.warehouse, line=turn.line, round=turn.round, seed=turn.seed, settings=curriculum
    )
    choice = ask()
    new = [problem.problem_id for problem in draw_new(turn, source, choice.num_new)]
    if len(new) < choice.num_new:
        choice = ask(num_left=len(new))
    needs = [*choice.needs, *[None] * len(new)]
    spendable = [0] * len(needs)
    if search.adaptive:
        configured = search.budget * len(needs)
        raised = raise_by(turn.warehouse, line=turn.line, round=turn.round, configured=configured)
        spendable = budgets(needs, configured=search.budget, raised=raised)
    return [
        Draw(
            line=turn.line,
            run_id=turn.run_id,
            round=turn.round,
            place=place,
            problem_id=problem_id,
            is_new=place >= len(choice.known),
            budget=budget,
        )
        for place, (problem_id, budget) in enumerate(zip([*choice.known, *new], spendable, strict=True))
    ]


def draw_new(turn: Turn, source: Source, num: int) -> list[Problem]:
    """New problems from the source, or as many as it has left, which is told."""
    ids = {split: {problem.problem_id for problem in problems_of(turn.warehouse, split)} for split in Split}
    used = ids.pop(Split.TRAIN)
    try:
        return source.draw_new(num, used.union(*ids.values()))  # of a source that grew others would be reserved now
    except RanDry as dry:
        if not (dry.problems or used):
            raise
        warn(str(dry))
        return dry.problems
