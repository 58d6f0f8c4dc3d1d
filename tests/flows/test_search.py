"""A round that searches by trees, and what people ask of search on the command line."""

import json
from pathlib import Path

import pytest

from tests.flows.conftest import Turned, Wheel

MCTS = 'strategy = "mcts"\ntokens = 90\nboundary = "="\n'


@pytest.fixture(scope="module")
def grown(turned: Turned, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """A wheel whose last round grew trees."""
    wheel = turned.wheel.copy(tmp_path_factory.mktemp("grown") / "wheel")
    settings = wheel.folder / "flywheel.toml"
    settings.write_text(settings.read_text().replace("samples = 8\n", MCTS))
    wheel("run", "--rounds", "1")
    return wheel


def test_a_round_keeps_its_trees_and_their_cost(grown: Wheel) -> None:
    searches = grown.ask("SELECT * FROM searches WHERE strategy LIKE 'mcts%'")
    assert {row["strategy"] for row in searches} == {"mcts(90 tokens)"}
    assert len(searches) == 24 and all(0 < row["num_tokens"] <= 90 for row in searches)
    assert all(1 <= row["depth"] <= 12 and row["num_steps"] >= row["depth"] for row in searches)
    (round,) = grown.ask("SELECT round, tokens FROM history ORDER BY round DESC LIMIT 1")
    (evaluated,) = grown.ask(f"SELECT sum(num_tokens)::INT AS tokens FROM evaluations WHERE round = {round['round']}"
                             " AND split = 'benchmark'")  # fmt: skip
    assert round["tokens"] == sum(row["num_tokens"] for row in searches) + evaluated["tokens"]


def test_every_step_hangs_on_its_tree_and_leads_to_its_trajectory(grown: Wheel) -> None:
    (faults,) = grown.ask("""
        SELECT
            count(*) FILTER (WHERE (steps.depth = 0) <> (steps.parent_id = '')) AS roots,
            count(*) FILTER (WHERE steps.depth > 0 AND parents.step_id IS NULL) AS orphans,
            count(*) FILTER (WHERE steps.depth <> parents.depth + 1) AS depths,
            count(*) FILTER (WHERE steps.visits > parents.visits) AS visits,
            count(*) FILTER (WHERE steps.is_kept AND NOT parents.is_kept) AS paths,
            count(*) FILTER (WHERE steps.num_right > steps.num_ends OR steps.num_ends > parents.num_ends) AS ends,
            count(*) FILTER (WHERE (steps.rewards = '{}') <> (steps.stop_reason = 'step') AND steps.num_ends = 1
                AND steps.trajectory_id <> '') AS unrewarded,
            count(*) FILTER (WHERE steps.rewards <> '{}'
                AND (steps.rewards::JSON ->> 'outcome')::DOUBLE <> trajectories.reward) AS rewards,
            count(*) FILTER (WHERE steps.guide <> 'verifier') AS guides,
            count(*) FILTER (WHERE steps.trajectory_id <> '' AND trajectories.trajectory_id IS NULL) AS trajectories,
            count(*) FILTER (WHERE steps.prior < 0 OR steps.prior > 1 OR steps.value < 0 OR steps.value > 1) AS shares
        FROM steps
        LEFT JOIN (SELECT step_id, depth, visits, is_kept, num_ends FROM steps) AS parents
            ON parents.step_id = steps.parent_id
        LEFT JOIN trajectories ON trajectories.trajectory_id = steps.trajectory_id
    """)
    assert set(faults.values()) == {0}
    (texts,) = grown.ask("""
        WITH paths AS (
            SELECT problem_id, string_agg(text, '' ORDER BY depth) AS text FROM steps WHERE is_kept GROUP BY problem_id
        )
        SELECT count(*) AS n, count(*) FILTER (WHERE paths.text = trajectories.text) AS same
        FROM trajectories
        JOIN paths USING (problem_id)
        WHERE strategy LIKE 'mcts%' AND sample = 0
    """)
    assert texts["n"] == texts["same"] == 24


@pytest.mark.slow
def test_a_shard_killed_as_it_publishes_grows_the_same_trees(turned: Turned, tmp_path: Path) -> None:
    wheel = turned.wheel.copy(tmp_path / "wheel")
    settings = wheel.folder / "flywheel.toml"
    settings.write_text(settings.read_text().replace("samples = 8\n", MCTS))
    run = wheel.start("run", "--rounds", "1")
    wheel.wait_for("lake/steps/*-s0001.parquet", 1, run)
    run.kill()
    run.communicate()
    before = wheel.digests()
    wheel("run")
    assert before.items() <= wheel.digests().items()
    (faults,) = wheel.ask("""
        SELECT
            count(*) FILTER (WHERE trajectories.trajectory_id IS NULL) AS lost,
            (SELECT count(*) - count(DISTINCT step_id) FROM steps) AS doubled
        FROM steps LEFT JOIN trajectories USING (trajectory_id) WHERE steps.trajectory_id <> ''
    """)
    assert set(faults.values()) == {0}


def test_what_trees_found_trains(grown: Wheel) -> None:
    (row,) = grown.ask(
        "SELECT count(*) AS n FROM current_selections JOIN trajectories USING (trajectory_id) "
        "WHERE kept AND strategy LIKE 'mcts%'"
    )
    assert row["n"] > 0


def test_the_report_draws_trees(grown: Wheel) -> None:
    page, _ = grown("report").stdout.split()
    html = Path(page).read_text(encoding="utf-8")
    assert "Some trees of round" in html and "mcts(90 tokens)" in html
    assert html.count('<details class="planted">') >= 2 and '<ul class="tree">' in html


def test_settings_of_another_strategy_are_refused(grown: Wheel) -> None:
    refused = grown("run", "--set", "search.samples=4", status=1).stderr
    assert 'search.samples would do nothing: search.strategy is "mcts", which spends search.tokens' in refused
    refused = grown("run", "--set", "search.strategy=beam", "--set", "search.widening=0.3", status=1).stderr
    assert 'search.widening would do nothing: search.strategy is "beam"' in refused
    refused = grown("run", "--set", "search.strategy=best_of_n", "--set", "search.width=8", status=1).stderr
    assert 'search.width would do nothing: search.strategy is "best_of_n", which grows no tree' in refused


def test_an_evaluation_names_strategy_budget_and_what_chose(grown: Wheel) -> None:
    arguments = ("evaluate", "champion", "--split", "development", "--search", "mcts", "--budget", "60")
    measured = json.loads(grown(*arguments, "--json").stdout)
    assert measured["strategy"] == "mcts(60 tokens), guided by rules, chosen by the rules of the game"
    assert measured["num_problems"] == 5 and 0 < measured["num_tokens"] <= 300
    assert "mcts(60 tokens), guided by rules, chosen by the rules of the game, " in grown(*arguments).stdout
    greedy = json.loads(grown("evaluate", "champion", "--split", "development", "--json").stdout)
    assert greedy["strategy"] == "greedy" and greedy["evaluation_id"] != measured["evaluation_id"]
    (kept,) = grown.ask(f"SELECT count(*) AS n FROM outcomes WHERE evaluation_id = '{measured['evaluation_id']}'")
    assert kept["n"] == 5


@pytest.mark.parametrize("strategy", ["mcts", "beam", "dvts"])
def test_solve_grows_a_tree_within_its_budget(grown: Wheel, strategy: str) -> None:
    arguments = ("solve", "20 41>61", "--search", strategy, "--budget", "90")
    solution = json.loads(grown(*arguments, "--json").stdout)
    assert solution["strategy"].startswith(strategy) and "90 tokens" in solution["strategy"]
    assert 0 < solution["num_tokens"] <= 90 and solution["text"] == "".join(solution["steps"])


def test_an_option_that_would_do_nothing_is_refused(grown: Wheel) -> None:
    for arguments, message in [
        (("solve", "2 3>6", "--budget", "90"), "--budget does nothing with --search best_of_n: leave it out."),
        (("solve", "2 3>6", "--search", "mcts", "--samples", "9"), "--samples does nothing with --search mcts"),
        (("evaluate", "--samples", "9"), "--samples does nothing with --search left out"),
        (("evaluate", "--guide", "rules"), "--guide does nothing with --search left out"),
        (("evaluate", "--choose", "first"), "--choose does nothing with --search left out"),
    ]:
        assert message in grown(*arguments, status=2).stderr
    for arguments, message in [
        (("solve", "2 3>6", "--choose", "first"), "the choice first would do nothing: of answers to such problems the"),
        (("solve", "2 3>6", "--guide", "likelihood"), "the guide likelihood would do nothing: best_of_n asks one only"),
        (("solve", "2 3>6", "--search", "mcts", "--budget", "much"), "the budget is 'much'; expected tokens, nodes or"),
    ]:
        assert message in grown(*arguments, status=1).stderr


def test_a_tree_may_have_a_budget_of_nodes_or_seconds(grown: Wheel) -> None:
    arguments = ("solve", "20 41>61", "--search", "mcts", "--budget", "6 nodes, 60 s", "--json")
    assert json.loads(grown(*arguments).stdout)["strategy"].startswith("mcts(6 nodes, 60 s)")


@pytest.mark.slow
def test_budgets_follow_history_and_are_kept(turned: Turned, tmp_path: Path) -> None:
    wheel = turned.wheel.copy(tmp_path / "wheel")
    settings = wheel.folder / "flywheel.toml"
    settings.write_text(settings.read_text().replace("enough = 0\n", "enough = 2\nadaptive = true\n"))
    wheel("run", "--rounds", "2")
    rounds = json.loads(wheel("sql", "budgets", "--format", "json").stdout)
    assert len(rounds) == 2 and all(row["spent"] <= row["planned"] for row in rounds)
    saved = rounds[0]["planned"] - rounds[0]["spent"]
    assert saved > 0 and rounds[1]["most"] <= round(4 * 8 * min(2.0, 1 + saved / (24 * 8)))
    (over,) = wheel.ask("""
        SELECT count(*) FILTER (WHERE num_attempts > budget) AS over, count(DISTINCT budget) AS budgets
        FROM searches WHERE budget > 0
    """)
    assert over["over"] == 0 and over["budgets"] > 3
