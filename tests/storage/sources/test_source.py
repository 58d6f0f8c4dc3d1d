"""A maker's stream is divided into splits that share nothing, and running dry is told with the fix."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import Problem, Split
from storage.sources.source import Capacity, RanDry, Source, Splits, distinct, question_id, typed_problem

SIZES = st.integers(0, 5)


def listed(prefix: str, num: int) -> list[Problem]:
    names = [f"{prefix}{index}" for index in range(num)]
    return [
        Problem(problem_id=name, source="list", split="train", prompt=name, question=name, verifier="math")
        for name in names
    ]


class ListMaker:
    """Makes t0, t1, …, and where it has a place for them held-out problems h0, h1, …."""

    name = "list"

    def __init__(self, num: int, num_held_out: int | None = None) -> None:
        self.num, self.num_held_out = num, num_held_out

    def draws(self) -> Iterator[Problem]:
        return iter(listed("t", self.num))

    def held_out(self) -> Iterator[Problem] | None:
        return None if self.num_held_out is None else iter(listed("h", self.num_held_out))

    def capacity(self) -> Capacity:
        return Capacity(count=self.num, exact=True)

    def dry_advice(self) -> str:
        return "lengthen the list"

    def parse(self, question: str) -> Problem:
        return typed_problem(question, self.name, "{question}")


def source(num: int, num_held_out: int | None = None, **sizes: int) -> Source:
    return Source(ListMaker(num, num_held_out), Splits(**{"benchmark": 0, "final": 0, "development": 0} | sizes))


def reserved_ids(made: Source) -> dict[Split, list[str]]:
    return {split: [problem.problem_id for problem in problems] for split, problems in made.reserved().items()}


def train_ids(made: Source) -> list[str]:
    return [problem.problem_id for problem in made.train()]


def test_benchmark_and_final_come_first_then_development_then_train() -> None:
    made = source(7, benchmark=2, final=1, development=2)
    assert reserved_ids(made) == {"benchmark": ["t0", "t1"], "final": ["t2"], "development": ["t3", "t4"]}
    assert train_ids(made) == ["t5", "t6"]


def test_a_place_of_their_own_leaves_the_whole_stream_to_development_and_train() -> None:
    made = source(4, 3, benchmark=2, final=1, development=1)
    assert reserved_ids(made) == {"benchmark": ["h0", "h1"], "final": ["h2"], "development": ["t0"]}
    assert train_ids(made) == ["t1", "t2", "t3"]


@given(benchmark=SIZES, final=SIZES, development=SIZES, num_held_out=st.none() | st.just(10))
def test_each_problem_is_in_one_split_and_knows_which(
    benchmark: int, final: int, development: int, num_held_out: int | None
) -> None:
    made = source(20, num_held_out, benchmark=benchmark, final=final, development=development)
    reserved = made.reserved()
    assert {split: len(problems) for split, problems in reserved.items()} == {
        "benchmark": benchmark,
        "final": final,
        "development": development,
    }
    assert all(problem.split == split for split, problems in reserved.items() for problem in problems)
    ids = [problem.problem_id for problems in reserved.values() for problem in problems] + train_ids(made)
    assert len(set(ids)) == len(ids)


@given(development=SIZES, num_held_out=st.none() | st.just(10))
def test_more_development_moves_neither_benchmark_nor_final(development: int, num_held_out: int | None) -> None:
    less = reserved_ids(source(20, num_held_out, benchmark=3, final=3))
    more = reserved_ids(source(20, num_held_out, benchmark=3, final=3, development=development))
    assert (less["benchmark"], less["final"]) == (more["benchmark"], more["final"])


def test_too_few_problems_are_told_with_the_fix() -> None:
    with pytest.raises(ValueError) as refusal:
        source(5, benchmark=3, final=2, development=1).reserved()
    assert str(refusal.value) == (
        "list makes 5 problems for these splits, and benchmark 3 + final 2 + development 1 + train at least 1 "
        "are asked for. Ask for smaller splits, or lengthen the list."
    )


def test_new_problems_follow_those_already_used() -> None:
    problems = source(6, benchmark=1).draw_new(2, used={"t1", "t3"})
    assert [problem.problem_id for problem in problems] == ["t2", "t4"]


def test_running_dry_gives_what_is_left_and_tells_the_fix() -> None:
    with pytest.raises(RanDry) as refusal:
        source(6, benchmark=1).draw_new(4, used={"t1", "t3"})
    assert [problem.problem_id for problem in refusal.value.problems] == ["t2", "t4", "t5"]
    assert str(refusal.value) == (
        "list has run dry: 4 new problems are asked for and 3 are left of 6 problems. "
        "Ask for fewer new ones, or lengthen the list."
    )


def test_a_negative_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split size final is -1"):
        Splits(final=-1)


@pytest.mark.parametrize(
    ("capacity", "text"),
    [
        (Capacity(count=1, exact=True), "1 problem"),
        (Capacity(count=33298, exact=True, note="counted"), "33,298 problems (counted)"),
        (Capacity(count=1934567, exact=False), "about 1,900,000 problems"),
        (Capacity(count=0, exact=False), "about 0 problems"),
        (Capacity(count=None, exact=False), "no known bound"),
    ],
)
def test_capacity_in_words(capacity: Capacity, text: str) -> None:
    assert capacity.describe() == text


def test_distinct_draws_end_when_patience_does() -> None:
    assert list(distinct(iter([1, None, 1, 2, 2, 1, None, 3]), lambda draw: draw, patience=3)) == [1, 2]
    assert list(distinct(iter([1, None, 1, 2, 2, 1, None, 3]), lambda draw: draw, patience=4)) == [1, 2, 3]


def test_white_space_and_the_coding_of_characters_do_not_make_another_question() -> None:
    assert question_id(" Caf\u00e9:\n 6  times 7?") == question_id("Cafe\u0301: 6 times 7?\u2028")


@pytest.mark.parametrize(("one", "other"), [("3²?", "32?"), ("Is aB = 6?", "Is Ab = 6?"), ("½ of 6?", "1⁄2 of 6?")])
def test_what_a_reader_tells_apart_is_another_question(one: str, other: str) -> None:
    assert question_id(one) != question_id(other)


def test_a_typed_question_needs_text_and_a_prompt_of_the_question_alone() -> None:
    assert typed_problem("6 times 7?", "list", "Q: {question}").prompt == "Q: 6 times 7?"
    with pytest.raises(ValueError, match="the problem is empty"):
        typed_problem(" \n", "list", "{question}")
    with pytest.raises(ValueError, match=r"needs {topic}, which a typed problem lacks"):
        typed_problem("6 times 7?", "list", "{topic}: {question}")
