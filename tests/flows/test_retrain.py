"""A retrain from the terminal: a candidate from chosen trajectories, gated, and no round."""

import json

import pytest

from flows.config import Config, ConfigError, amend
from flows.forms import RetrainForm
from flows.retrain import amend_learning
from flows.schedule import ServeSettings
from tests.flows.conftest import Wheel


def test_a_retrain_trains_on_what_was_picked_and_is_gated_and_no_round(wheel: Wheel) -> None:
    rounds, decisions = wheel.count("rounds"), wheel.count("promotions")
    query = "SELECT trajectory_id FROM current_selections WHERE kept ORDER BY ALL LIMIT 5"
    said = wheel("retrain", query, "--set", "learning.epochs=1").stdout
    assert "The candidate learnt from 5 solutions and is " in said
    (run,) = wheel.ask("SELECT * FROM current_runs WHERE kind = 'retrain'")
    assert (run["state"], run["first_round"], run["query"]) == ("finished", rounds - 1, query)
    (checkpoint,) = wheel.ask(f"SELECT * FROM checkpoints WHERE run_id = '{run['run_id']}'")
    assert (checkpoint["num_examples"], json.loads(checkpoint["settings"])["epochs"]) == (5, 1)
    picked = wheel.ask(
        f"SELECT solved FROM picks JOIN trajectories USING (trajectory_id) "
        f"WHERE selection_id = '{checkpoint['selection_id']}'"
    )
    assert [row["solved"] for row in picked] == [True] * 5
    (decision,) = wheel.ask("SELECT * FROM promotions ORDER BY sequence DESC LIMIT 1")
    assert (decision["run_id"], decision["candidate_id"]) == (run["run_id"], checkpoint["checkpoint_id"])
    assert decision["p_value"] is not None
    assert (wheel.count("rounds"), wheel.count("promotions")) == (rounds, decisions + 1)


@pytest.mark.parametrize("objective", ["dpo", "grpo"])
def test_a_retrain_may_learn_from_right_and_wrong(wheel: Wheel, objective: str) -> None:
    said = wheel("retrain", "attempts", "--set", f"learning.objective={objective}").stdout
    assert "The candidate learnt from " in said
    (checkpoint,) = wheel.ask("SELECT * FROM checkpoints ORDER BY created_at DESC LIMIT 1")
    settings = json.loads(checkpoint["settings"])
    assert (checkpoint["objective"], settings["epochs"]) == (objective, settings["refining_epochs"])
    assert checkpoint["num_examples"] > 0 and 0 <= checkpoint["stale_share"] <= 1
    steps = wheel.ask(
        f"SELECT * FROM training_steps WHERE checkpoint_id = '{checkpoint['checkpoint_id']}' ORDER BY step"
    )
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1)) and len(steps) > 0
    assert sum(step["num_tokens"] for step in steps) == checkpoint["num_tokens"]
    for step in steps:
        told = {name for name in ("kl", "entropy", "clip_share", "margin", "pairs_right") if step[name] is not None}
        assert told == ({"margin", "pairs_right"} if objective == "dpo" else {"kl", "entropy", "clip_share"})
    pairs = wheel.ask(f"SELECT * FROM pairs WHERE checkpoint_id = '{checkpoint['checkpoint_id']}'")
    assert len(pairs) == (checkpoint["num_examples"] if objective == "dpo" else 0)


def test_right_answers_alone_teach_no_preference(wheel: Wheel) -> None:
    said = wheel("retrain", "kept", "--set", "learning.objective=dpo", status=1).stderr
    assert "the selection names right answers alone, and dpo learns from right and wrong ones" in said
    assert wheel.ask("SELECT count(*) AS n FROM runs WHERE kind = 'retrain'") == [{"n": 0}]


def test_what_cannot_be_retrained_is_refused_and_leaves_nothing(wheel: Wheel) -> None:
    before = wheel.digests()
    misnamed = wheel("retrain", "nweest", status=1).stderr
    assert misnamed.startswith("flywheel: there is no selection 'nweest'; expected attempts, kept, newest, reflective")
    wrong = wheel("retrain", "SELECT trajectory_id FROM trajectories WHERE NOT solved LIMIT 3", status=1).stderr
    assert (
        wrong
        == "flywheel: the selection names 3 trajectories that may not all train: 3 are not solved, which cloning would "
        "imitate: add WHERE solved.\n"
    )
    assert wheel.digests() == before


def test_a_home_without_a_policy_is_told_what_to_do(fresh: Wheel) -> None:
    assert "there is no home at" in fresh("retrain", status=1).stderr


def test_a_retrain_obeys_learning_and_not_what_made_its_trajectories() -> None:
    changed = amend_learning(Config(), ["learning.epochs=1.5", "learning.start=initial"])
    assert (changed.learning.epochs, changed.learning.start) == (1.5, "initial")
    with pytest.raises(ConfigError, match=r"search.samples would do nothing in a retrain, which obeys run, policy"):
        amend_learning(Config(), ["search.samples=4"])
    with pytest.raises(ConfigError, match=r"policy.model would do nothing in a retrain, which trains the champion"):
        amend_learning(Config(), ["policy.model=some/model"])
    with pytest.raises(ConfigError, match="epochs"):
        amend_learning(Config(), ["learning.epochs=-1"])


def test_a_form_changes_only_what_was_filled_in() -> None:
    assert RetrainForm().sets("cloning") == []
    filled = RetrainForm(epochs=3, learning_rate=1e-4, start="initial")
    assert filled.sets("cloning") == ["learning.epochs=3.0", "learning.learning_rate=0.0001", "learning.start=initial"]
    assert amend_learning(Config(), filled.sets("cloning")).learning.learning_rate == 1e-4
    preferring = RetrainForm(objective="dpo", epochs=2).sets("cloning")
    assert preferring == ["learning.objective=dpo", "learning.refining_epochs=2.0"]
    assert amend_learning(Config(), preferring).learning.refined().epochs == 2
    assert RetrainForm(epochs=2).sets("grpo") == ["learning.refining_epochs=2.0"]


def test_settings_of_the_last_run_may_do_nothing_in_a_retrain() -> None:
    before = amend(Config(), ["learning.fade=0.3"])
    assert amend_learning(before, ["learning.objective=grpo"]).learning.objective == "grpo"
    with pytest.raises(ConfigError, match=r"learning\.beta would do nothing: learning\.objective is"):
        amend_learning(before, ["learning.beta=0.2"])
    warming = amend(Config(), ["learning.objective=dpo", "learning.warm_up_rounds=3"])
    with pytest.raises(ConfigError, match=r"learning\.epochs would do nothing: learning\.objective is"):
        amend_learning(warming, ["learning.epochs=2"])
    by_steps = amend_learning(before, ["learning.objective=grpo", "learning.credit=steps"])
    assert (by_steps.learning.credit, by_steps.search) == ("steps", before.search), "what is picked may be trees'"
    with pytest.raises(ConfigError, match=r"learning\.credit would do nothing: learning\.objective is"):
        amend_learning(before, ["learning.credit=steps"])
    with pytest.raises(ConfigError, match=r"learning\.window would do nothing in a retrain, which is told"):
        amend_learning(warming, ["learning.window=2"])


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"cron": "0 2 * * *"}, "timezone is ''; expected the name of one"),
        ({"cron": "0 2 * * *", "timezone": "Mars/Olympus"}, "timezone is 'Mars/Olympus'"),
        ({"cron": "at two", "timezone": "UTC"}, "expected five fields"),
        ({"cron": "99 99 * * *", "timezone": "UTC"}, "bad minute; expected as 0 2"),
        ({"cron": "@daily", "timezone": "UTC", "interval_s": 60}, "cron and interval_s are both set"),
        ({"timezone": "UTC"}, "timezone would do nothing without a cron"),
        ({"interval_s": 0.5}, "expected 0, or at least 1"),
        ({"interval_s": -1}, "expected 0, or at least 1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"port": 0}, "port is 0"),
        ({"url": "localhost:4200"}, "expected the address of an API"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ServeSettings(**settings)  # type: ignore[arg-type]


def test_a_schedule_may_be_a_cron_or_an_interval() -> None:
    assert ServeSettings(cron="*/5 9-17 * * mon-fri", timezone="America/New_York").rounds == 1
    assert ServeSettings(interval_s=3600, paused=True).paused
