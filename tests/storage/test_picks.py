"""What a retrain may train on."""

import pytest

from storage.home import Home
from storage.lake import Lake
from storage.picks import is_instead, pick, picked_set, read_selection
from storage.warehouse import QueryError, Warehouse
from tests.storage.conftest import make_sample

LINE = "main"


@pytest.fixture
def home(home: Home) -> Home:
    """A home with right and wrong answers to a problem for training and one for evaluation."""
    splits = ("train", "benchmark")
    problems = [make_sample("problems", problem_id=split, split=split, prompt=f"{split}?") for split in splits]
    attempts = [
        make_sample(
            "trajectories",
            trajectory_id=f"{split}-{solved}-{line}",
            problem_id=split,
            line=line,
            solved=solved,
            token_ids=[1, 2],
        )
        for split in splits
        for solved in (True, False)
        for line in (LINE, "other")
    ]
    Lake(home).seed()
    Lake(home).publish("problems", "p", problems)
    Lake(home).publish("trajectories", "t", attempts)
    return home


def test_a_query_picks_what_it_names_once(home: Home) -> None:
    query = "SELECT trajectory_id FROM trajectories, range(2) WHERE trajectory_id = 'train-True-main'"
    assert pick(Warehouse(home), line=LINE, query=query) == [("train-True-main", 1.0)]
    Lake(home).publish("picks", "s", [make_sample("picks", selection_id="s", trajectory_id="train-True-main")])
    (row,) = picked_set(Warehouse(home), "s").to_dicts()
    assert (row["prompt"], row["token_ids"], row["share"], row["weight"]) == ("train?", [1, 2], 1.0, 1.0)


def test_a_query_may_weigh_what_it_names(home: Home) -> None:
    query = "SELECT trajectory_id, 3 AS weight FROM trajectories WHERE trajectory_id = 'train-True-main'"
    assert pick(Warehouse(home), line=LINE, query=query) == [("train-True-main", 3.0)]
    pick_of = make_sample("picks", selection_id="s", trajectory_id="train-True-main", weight=3.0)
    Lake(home).publish("picks", "s", [pick_of])
    assert picked_set(Warehouse(home), "s")["weight"].to_list() == [3.0]


@pytest.mark.parametrize(("weight", "fault"), [("-1", "holds -1.0; expected numbers over 0"), ("'x'", "expected numb")])
def test_what_is_no_weight_is_refused(home: Home, weight: str, fault: str) -> None:
    with pytest.raises(QueryError, match=fault):
        pick(Warehouse(home), line=LINE, query=f"SELECT trajectory_id, {weight} AS weight FROM trajectories")


def test_wrong_answers_may_be_named_for_an_objective_that_learns_from_them(home: Home) -> None:
    query = "SELECT trajectory_id FROM trajectories WHERE problem_id = 'train' AND line = 'main'"
    assert len(pick(Warehouse(home), line=LINE, query=query, objective="grpo")) == 2
    with pytest.raises(QueryError, match="names right answers alone, and grpo learns from right and wrong ones"):
        pick(Warehouse(home), line=LINE, query=f"{query} AND solved", objective="grpo")
    with pytest.raises(QueryError, match="a column weight is for cloning, and dpo would not look at it"):
        pick(
            Warehouse(home),
            line=LINE,
            query=query.replace("trajectory_id", "trajectory_id, 2 AS weight", 1),
            objective="dpo",
        )


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("trajectory_id = 'train-False-main'", "1 are not solved, which cloning would imitate: add WHERE solved"),
        ("trajectory_id = 'benchmark-True-main'", "1 answer problems that are reserved for evaluation"),
        ("trajectory_id = 'train-True-other'", "1 are of another line"),
        ("true", "names 8 trajectories that may not all train: 4 are of another line; 4 are not solved"),
        ("false", "the selection names no trajectory"),
    ],
)
def test_what_may_not_train_is_refused_with_the_reason(home: Home, where: str, fault: str) -> None:
    with pytest.raises(QueryError, match=fault):
        pick(Warehouse(home), line=LINE, query=f"SELECT trajectory_id FROM trajectories WHERE {where}")


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("SELECT 'nobody' AS trajectory_id", "1 of them are no trajectories"),
        ("SELECT text FROM trajectories", "the selection gives text; expected a column trajectory_id"),
        ("SELECT trajectory_id FROM trajectories; SELECT 1", "found 2 statements"),
        ("COPY trajectories TO 'x.csv'", "type COPY, expected SELECT"),
    ],
)
def test_what_is_no_selection_is_refused(home: Home, query: str, fault: str) -> None:
    with pytest.raises(QueryError, match=fault):
        pick(Warehouse(home), line=LINE, query=query)


def test_a_selection_is_a_name_or_the_query_itself(home: Home) -> None:
    assert read_selection(home, "SELECT 1") == "SELECT 1"
    assert "current_selections WHERE kept" in read_selection(home, " kept ")
    with pytest.raises(QueryError, match=r"no selection 'nweest'; expected attempts, kept, .*Did you mean newest\?"):
        read_selection(home, "nweest")
    home.queries.mkdir()
    (home.queries / "mine.sql").write_text("SELECT 'x' AS trajectory_id")
    assert not is_instead(home, "mine") and not is_instead(home, "kept") and not is_instead(home, "SELECT 1")
    (home.queries / "kept.sql").write_text("SELECT 'y' AS trajectory_id", encoding="utf-8")
    assert is_instead(home, " kept ") and read_selection(home, "kept") == "SELECT 'y' AS trajectory_id"
    assert read_selection(home, "mine") == "SELECT 'x' AS trajectory_id"


@pytest.mark.parametrize("name", ["kept", "newest", "reflective", "attempts"])
def test_our_own_selections_answer(home: Home, name: str) -> None:
    assert Warehouse(home).ask(read_selection(home, name)).columns == ["trajectory_id"]
