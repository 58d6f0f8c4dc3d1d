"""reasoning-gym as a source: the same problems in every process, and what it refuses."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from storage.records import Problem
from storage.sources import gym, gym_entries
from storage.sources.countdown import game_id
from storage.sources.gym import GymMaker, GymProblems, first_seed, read_difficulty, run_entries
from storage.sources.source import RanDry, Source, Splits, question_id

NO_SPLITS = Splits(benchmark=0, final=0, development=0)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes that are started."""
    processes: list[subprocess.Popen[str]] = []

    def start(*args: Any, **kwargs: Any) -> subprocess.Popen[str]:
        processes.append(subprocess.Popen(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr(gym, "Popen", start)
    return processes


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries come from here, which is quicker."""

    def entries(settings: GymProblems) -> Iterator[dict[str, Any]]:
        drawn = gym_entries.draw_entries(settings.dataset, settings.params, first_seed(settings.seed))
        return (json.loads(json.dumps(entry)) for entry in drawn)

    monkeypatch.setattr(gym, "run_entries", entries)


def first(num: int, **settings: Any) -> list[Problem]:
    return list(islice(GymMaker(GymProblems(**settings)).draws(), num))


def test_entries_are_the_same_in_every_process_though_the_library_follows_the_order_of_hashes(
    started: list[subprocess.Popen[str]],
) -> None:
    state = random.getstate()
    settings = GymProblems(dataset="isomorphic_strings")
    short, long = (list(islice(run_entries(settings), num)) for num in (20, 30))
    assert short == long[:20]
    assert random.getstate() == state
    assert [process.returncode for process in started] == [-9, -9]


def test_a_problem_is_what_the_verifier_reads(in_this_process: None) -> None:
    [problem] = first(1, dataset="chain_sum", params={"min_terms": 3, "max_terms": 3}, prompt="Q: {question}")
    entry = json.loads(problem.data)["entry"]
    assert problem == Problem(
        problem_id=question_id(entry["question"]),
        source="reasoning_gym:chain_sum",
        split="train",
        prompt=f"Q: {entry['question']}",
        question=entry["question"],
        answer=entry["answer"],
        data=json.dumps({"dataset": "chain_sum", "params": {"min_terms": 3, "max_terms": 3}, "entry": entry}),
        verifier="reasoning_gym",
        difficulty=f"num_digits={entry['metadata']['num_digits']} num_terms=3",
        position=0,
        created_at=problem.created_at,
    )


def test_a_countdown_game_is_our_own(in_this_process: None) -> None:
    params = {"min_numbers": 3, "max_numbers": 3}
    [problem] = first(1, dataset="countdown", params=params, prompt="{numbers}>{target};")
    data = json.loads(problem.data)
    numbers, target = data["numbers"], data["target"]
    assert problem.problem_id == game_id((tuple(numbers), target))
    assert problem.prompt == f"{' '.join(map(str, sorted(numbers)))}>{target};"
    assert "Final answer format instructions" in problem.question
    assert (problem.verifier, problem.answer, problem.difficulty) == ("countdown", "", "3")


def test_seeds_give_streams_of_their_own_and_a_longer_one_begins_like_a_shorter_one(in_this_process: None) -> None:
    def ids(num: int, seed: int) -> list[str]:
        return [problem.problem_id for problem in first(num, dataset="chain_sum", seed=seed)]

    long = ids(1_200, 0)
    assert long[:30] == ids(30, 0)
    assert len(set(long)) == 1_200
    assert len(set(ids(300, 1)) & set(ids(300, 2))) < 30  # sums of two digits meet by chance


def test_a_dataset_that_makes_all_entries_at_once_is_a_stream_too(in_this_process: None) -> None:
    problems = first(600, dataset="acre")
    assert [problem.position for problem in problems] == list(range(600))


def test_what_draws_from_the_global_generator_is_a_function_of_the_seed_too() -> None:
    drawn = []
    for state in (1, 2):
        random.seed(state)
        drawn.append(list(islice(gym_entries.draw_entries("list_functions", {}, 0), 100)))
    assert drawn[0] == drawn[1]


def test_running_dry_is_told_with_the_fix(in_this_process: None) -> None:
    settings = GymProblems(dataset="count_bits", params={"min_n": 1, "max_n": 5})
    with pytest.raises(RanDry) as refusal:
        Source(GymMaker(settings), NO_SPLITS).draw_new(9, used=())
    assert len(refusal.value.problems) == 5
    assert str(refusal.value) == (
        "reasoning_gym:count_bits has run dry: 9 new problems are asked for and 5 are left of no known bound "
        "(reasoning_gym does not say how many there are). Ask for fewer new ones, "
        "or widen the params of count_bits ({'min_n': 1, 'max_n': 5})."
    )


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("chain_sums", {}, "has no dataset 'chain_sums'; did you mean 'chain_sum'?"),
        ("qqq", {}, "has no dataset 'qqq'; it has ab, acre, "),
        ("chain_sum", {"max_term": 3}, "chain_sum has no param 'max_term'; did you mean 'max_terms'?"),
        ("chain_sum", {"max_terms": "3"}, "param 'max_terms' of chain_sum is '3'; expected something like 6"),
        ("chain_sum", {"min_terms": 9}, "chain_sum refuses params {'min_terms': 9}: max_terms must be >= min_terms"),
        ("chain_sum", {"seed": 3}, "params hold 'seed'"),
        ("chain_sum", {"size": 3}, "params hold 'size'"),
        (
            "countdown",
            {"min_numbers": 2, "max_numbers": 2, "max_value": 1},
            "countdown fails 20 times in a row, the last with ValueError('Failed to generate valid expression",
        ),
    ],
)
def test_a_wrong_name_or_param_is_named_with_the_fix(name: str, params: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as refusal:
        next(gym_entries.draw_entries(name, params, 0))
    assert reason in str(refusal.value)


def test_what_the_other_process_refuses_is_raised_here() -> None:
    with pytest.raises(ValueError, match="did you mean 'chain_sum'"):
        first(1, dataset="chain_sums")


def test_a_process_that_ends_by_itself_is_an_error_not_a_dry_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    with pytest.raises(RuntimeError, match="ended by itself"):
        first(1, dataset="chain_sum")


@pytest.mark.parametrize(
    ("metadata", "label"),
    [
        ({"difficulty": {"num_terms": [2, 6], "value": [0, 1000]}, "num_terms": 4, "value": 7}, "num_terms=4"),
        ({"difficulty": {"words": [3, 20]}}, ""),
        ({"difficulty": {"length": 10, "level": None}}, "length=10"),
        ({"difficulty": 1.0}, "1.0"),
        ({}, ""),
    ],
)
def test_difficulty_is_the_entrys_own_sizes(metadata: dict[str, Any], label: str) -> None:
    assert read_difficulty(metadata) == label


def test_a_prompt_shows_the_game_for_countdown_alone() -> None:
    with pytest.raises(ValueError, match="the fields are question"):
        GymProblems(dataset="chain_sum", prompt="{numbers}")


def test_a_typed_game_is_worded_as_the_library_does_and_any_other_question_cannot_be_judged() -> None:
    game = GymMaker(GymProblems(dataset="countdown")).parse("4 26 7>15")
    assert game.prompt.startswith("Using all the numbers 4, 26, 7, create an expression that equals 15.")
    assert (game.problem_id, game.verifier) == (game_id(((4, 26, 7), 15)), "countdown")
    other = GymMaker(GymProblems(dataset="chain_sum")).parse("1 + 2 = ?")
    assert (other.prompt, other.answer, other.verifier) == ("1 + 2 = ?", "", "math")
