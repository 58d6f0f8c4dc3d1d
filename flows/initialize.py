"""Before the first round: reserve the benchmark, make the initial policy, measure it, crown it."""

from time import monotonic

from flows.config import Config
from flows.round import close, measure, prepared
from flows.stages import Stages
from storage.records import Round, Split, now
from tasks.initialize import initialize, reserve
from tasks.promote import crown
from tasks.turn import Turn


def start_line(turn: Turn, config: Config) -> Round:
    """Round 0 of a line."""
    stages, started_at, started = Stages.of(turn, config), now(), monotonic()
    with stages("sample"):
        prepared(reserve, "start · reserve", config)(turn, config.problems, config.splits)
    with stages("initialize"):
        make = prepared(initialize, "start · initialize", config)
        checkpoint_id = make(turn, config.problems, config.policy, config.scratch, config.initialization)
    with stages("evaluate"):
        measure(turn, checkpoint_id, Split.BENCHMARK, config)
    with stages("promote"):
        promotion = prepared(crown, "start · promote", config)(turn, checkpoint_id)
    return close(turn, promotion, stages, config, started_at=started_at, seconds=monotonic() - started)
