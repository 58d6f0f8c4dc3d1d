"""What the lake says of rounds and runs, for people and for resuming."""

from typing import Any

from storage.lake import to_records
from storage.records import Kind, Run, State
from storage.warehouse import Warehouse


def round_totals(warehouse: Warehouse, *, line: str, run_id: str, round: int) -> dict[str, Any]:
    """Sums over a round of a run: num_problems, num_trajectories, solved_share, num_selected and num_tokens."""
    (totals,) = warehouse.named("round_totals", line=line, run_id=run_id, round=round).to_dicts()
    return totals


def rounds(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The view `history` as rows."""
    return warehouse.query("SELECT * FROM history").to_dicts()


def champions(warehouse: Warehouse) -> list[str]:
    """The checkpoint that is champion now, of each line."""
    found = warehouse.query("SELECT champion_id FROM champions ORDER BY line")
    return [str(champion) for champion in found["champion_id"]]


def rollbacks(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Who made an earlier champion the champion again: after which round, to that of which, and why."""
    return warehouse.query("""
        SELECT promotions.round, checkpoints.round AS back_to, decided_by, reason
        FROM promotions JOIN checkpoints ON checkpoints.checkpoint_id = promotions.champion_id
        WHERE verdict = 'rolled_back'
        ORDER BY promotions.line, sequence""").to_dicts()


def last_run(warehouse: Warehouse, kind: Kind = Kind.ROUNDS) -> Run | None:
    """The newest run of a kind as it stands; None before the first."""
    found = warehouse.query(
        "SELECT * FROM current_runs WHERE kind = $kind ORDER BY started_at DESC, run_id LIMIT 1", kind=kind
    )
    return next(iter(to_records("runs", found)), None)


def unfinished_runs(warehouse: Warehouse) -> list[str]:
    """Runs that are at work, or were broken off and may go on."""
    found = warehouse.query("SELECT run_id FROM current_runs WHERE state = $state", state=State.RUNNING)
    return found["run_id"].to_list()


def find_run(warehouse: Warehouse, run_id: str) -> Run:
    """A run as it stands. Raises ValueError for an unknown one."""
    found = to_records("runs", warehouse.query("SELECT * FROM current_runs WHERE run_id = $run_id", run_id=run_id))
    if not found:
        raise ValueError(f'there is no run {run_id!r}; `flywheel sql "SELECT run_id FROM runs"` lists them')
    run = found[0]
    assert isinstance(run, Run)
    return run


def num_runs(warehouse: Warehouse) -> int:
    """Runs that were begun."""
    found = warehouse.query("SELECT count(DISTINCT run_id) AS n FROM runs")
    return int(found["n"].item())


def num_rounds_done(warehouse: Warehouse, run_id: str) -> int:
    """Rounds of a run that are closed, round 0 aside."""
    found = warehouse.query("SELECT count(*) AS n FROM rounds WHERE run_id = $run_id AND round > 0", run_id=run_id)
    return int(found["n"].item())


def shard_counts(warehouse: Warehouse, *, run_id: str, round: int, shard: int) -> dict[str, int]:
    """Of a search shard that is published the problems done and those solved."""
    (counts,) = warehouse.query(
        "SELECT count(DISTINCT problem_id) AS done, count(DISTINCT problem_id) FILTER (solved) AS solved "
        "FROM trajectories WHERE run_id = $run_id AND round = $round AND shard = $shard",
        run_id=run_id,
        round=round,
        shard=shard,
    ).to_dicts()
    return counts


def refusals_in_a_row(warehouse: Warehouse, line: str) -> int:
    """Gate decisions on a line since its last promotion that refused."""
    found = warehouse.named("refusals_in_a_row", line=line)
    return int(found["n"].item())


def preflight(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    """A run's attempts before the first round: shares, means, and three texts with their reasons."""
    (shares,) = warehouse.named("preflight", run_id=run_id).to_dicts()
    return shares


def next_round(warehouse: Warehouse, line: str) -> int:
    """The number after the line's last closed round; 1 where there is none but the initial policy."""
    found = warehouse.query("SELECT coalesce(max(round), 0) + 1 AS n FROM rounds WHERE line = $line", line=line)
    return int(found["n"].item())
