"""Rounds that clone at first and refine afterwards, each saying what it did."""

import json
from itertools import pairwise

from flows.runs import is_worse
from storage.records import Promotion
from tests.flows.conftest import Wheel


def test_after_the_warm_up_another_objective_takes_over_and_goes_on_from_its_own(wheel: Wheel) -> None:
    """The wheel has turned two rounds; these are the third to the fifth."""
    objective = ["--set", "learning.objective=dr_grpo", "--set", "learning.warm_up_rounds=3"]
    wheel("run", "--rounds", "3", *objective, "--set", "gate.alpha=1e-9", "--set", "run.plateau_after=9")
    second, *rows = wheel.ask("SELECT * FROM checkpoints WHERE round > 1 ORDER BY round")
    assert [row["objective"] for row in rows] == ["cloning", "dr_grpo", "dr_grpo"]
    settings = [json.loads(row["settings"]) for row in rows]
    assert [one["learning_rate"] for one in settings] == [0.002, 0.0002, 0.0002]
    champion = wheel.ask("FROM champions")[0]["champion_id"]
    decisions = {row["candidate_id"]: Promotion(**row) for row in wheel.ask("FROM promotions")}
    for before, row in pairwise([second, *rows]):
        was_worse = is_worse(decisions[before["checkpoint_id"]], alpha=1e-9)
        assert row["parent_id"] == (champion if was_worse else before["checkpoint_id"])
    (stale, *_) = [row["stale_share"] for row in rows if row["objective"] == "dr_grpo"]
    assert stale == 1.0  # the champion made the attempts, and its successor learns from them


def test_steps_of_trees_are_preferred_and_have_their_own_credit(wheel: Wheel) -> None:
    config = (wheel.folder / "flywheel.toml").read_text(encoding="utf-8")
    for idle in ("samples = 8", "enough = 0", "epochs = 2.0", "fade = 0.8"):
        assert idle in config
        config = config.replace(f"{idle}\n", "")
    (wheel.folder / "flywheel.toml").write_text(config, encoding="utf-8")
    trees = ["--set", "search.strategy=mcts", "--set", "search.tokens=200", "--set", "run.plateau_after=9"]
    wheel("run", "--rounds", "1", *trees, "--set", "learning.objective=dpo", "--set", "learning.pair_margin=0.1")
    pairs = wheel.ask("SELECT kind, prefix, chosen, rejected, margin FROM pairs")
    assert {pair["kind"] for pair in pairs} == {"steps", "answers"}
    assert all(pair["chosen"] != pair["rejected"] and pair["margin"] >= 0.1 for pair in pairs)
    assert all(pair["prefix"] == "" for pair in pairs if pair["kind"] == "answers")
    wheel("run", "--rounds", "1", *trees, "--set", "learning.objective=grpo", "--set", "learning.credit=steps")
    (last,) = wheel.ask("SELECT objective, num_examples FROM checkpoints ORDER BY created_at DESC LIMIT 1")
    assert last["objective"] == "grpo" and last["num_examples"] > 0


def test_on_policy_each_version_of_the_weights_samples_for_the_next_step(wheel: Wheel) -> None:
    """In a retrain, on the problems of the last round that some attempts solved."""
    sets = ["objective=grpo", "on_policy_steps=3", "group=4", "group_problems=5"]
    said = wheel("retrain", "attempts", *(word for text in sets for word in ("--set", f"learning.{text}"))).stdout
    assert "attempts and is " in said
    (candidate,) = wheel.ask("SELECT * FROM checkpoints ORDER BY created_at DESC LIMIT 1")
    assert candidate["stale_share"] == 0
    sampled = wheel.ask(
        "SELECT checkpoint_id, count(*) AS attempts, count(DISTINCT problem_id) AS problems, "
        "count(DISTINCT seed) AS seeds FROM trajectories "
        f"WHERE starts_with(checkpoint_id, '{candidate['checkpoint_id']}@') GROUP BY ALL ORDER BY ALL"
    )
    assert [row["checkpoint_id"] for row in sampled] == [f"{candidate['checkpoint_id']}@{step}" for step in (1, 2, 3)]
    assert all(row["attempts"] == row["seeds"] == 4 * row["problems"] for row in sampled)
    steps = wheel.ask(
        f"SELECT * FROM training_steps WHERE checkpoint_id = '{candidate['checkpoint_id']}' ORDER BY step"
    )
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert sum(step["num_examples"] for step in steps) == candidate["num_examples"]
    assert all(step["kl"] is None or step["kl"] < 1e-6 for step in steps)  # the sampler is the policy itself
