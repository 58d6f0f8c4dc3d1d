"""Problems from files: gold answers, duplicates, an order that adding rows hardly moves, a benchmark of its own."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from storage.records import Problem
from storage.sources.file import FileProblems, file_maker
from storage.sources.questions import gold_answer
from storage.sources.source import Capacity, RanDry, Source, Splits, question_id


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(start: int, stop: int) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {n} + {n}?", "answer": f"{n} + {n} is {2 * n}.\n#### {2 * n}"}
        for n in range(start, stop)
    ]


def drawn(path: Path, **settings: Any) -> list[Problem]:
    return list(file_maker(FileProblems(path=path, **settings)).draws())


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("She earned 12/60 = <<12/60=0.2>>0.2.\n#### 10", "10"),
        ("#### 1\n#### 1,250 ", "1,250"),
        ("#### 9\nThanks", "9"),
        ("####\r\n 9 \r\nThanks\r\n", "9"),
        (r"so \boxed{\frac{\sqrt{2}}{\sqrt{3}}}, or {about} 0.8", r"\frac{\sqrt{2}}{\sqrt{3}}"),
        (r"So \boxed{4} or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{3} #### 7", "7"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\left( 3, \frac{\pi}{2} \right)"),
        (" 72\n", "72"),
        ("no answer ####  ", ""),
        (r"\boxed{\frac{1}{2}", ""),
    ],
)
def test_gold_stands_after_the_mark_else_in_the_box_else_alone(text: str, gold: str) -> None:
    assert gold_answer(text) == gold


@given(
    st.recursive(st.text("ab\\ ", min_size=1), lambda inner: inner.map(lambda text: "x{" + text + "}y"), max_leaves=5)
)
def test_braces_in_a_box_are_balanced(inside: str) -> None:
    assert gold_answer(rf"thus \boxed{{{inside}}}, }} as said") == inside.strip()


def test_a_row_makes_the_whole_problem(tmp_path: Path) -> None:
    row = {"problem": "Half of 7?", "solution": r"\boxed{3.5}", "level": 2, "topic": "halves"}
    path = write(tmp_path / "train.jsonl", [row])
    [problem] = drawn(
        path,
        question_column="problem",
        answer_column="solution",
        difficulty_column="level",
        prompt="[{topic}] {question} = {problem}",
    )
    assert problem == Problem(
        problem_id=question_id("Half of 7?"),
        source="file:train.jsonl",
        split="train",
        prompt="[halves] Half of 7? = Half of 7?",
        question="Half of 7?",
        answer="3.5",
        data="{}",
        verifier="math",
        difficulty="2",
        position=0,
        created_at=problem.created_at,
    )


def test_json_lines_an_array_and_parquet_make_the_same_problems(tmp_path: Path) -> None:
    rows = sums(0, 20)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    paths = [write(tmp_path / "a.jsonl", rows), tmp_path / "a.json", tmp_path / "a.parquet"]
    made = [[(problem.problem_id, problem.answer) for problem in drawn(path)] for path in paths]
    assert made[0] == made[1] == made[2]
    assert {answer for _, answer in made[0]} == {str(2 * n) for n in range(20)}


def test_numbers_are_answers_as_good_as_text(tmp_path: Path) -> None:
    rows = [{"question": "1+1?", "answer": 2}, {"question": "1/2?", "answer": 0.5}]
    assert sorted(problem.answer for problem in drawn(write(tmp_path / "a.jsonl", rows))) == ["0.5", "2"]


def test_duplicates_are_kept_once(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "question": "1+1?", "answer": "#### 2"},
        {"id": 1, "question": "1+1? ", "answer": "2"},
        {"id": 1, "question": "2+2?", "answer": "4"},
    ]
    assert sorted(problem.question for problem in drawn(write(tmp_path / "a.jsonl", rows))) == ["1+1?", "2+2?"]


def test_questions_that_differ_in_a_power_or_a_capital_are_two(tmp_path: Path) -> None:
    rows = [{"question": q, "answer": a} for q, a in [("3²?", "9"), ("32?", "32"), ("aB?", "1"), ("Ab?", "2")]]
    assert len(drawn(write(tmp_path / "a.jsonl", rows))) == 4


def test_two_answers_to_one_question_are_an_error_that_names_both_rows(tmp_path: Path) -> None:
    rows = [{"question": "Is 1 = 1?", "answer": "yes"}, *sums(0, 3), {"question": "Is 1 =  1?", "answer": "no"}]
    with pytest.raises(ValueError, match=r"a.jsonl, line 5 asks what a.jsonl, line 1 asks, .* 'no', not 'yes'"):
        drawn(write(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "1+1?"}, "line 2 has no column 'answer'; its columns are question: name one of them, or add it"),
        ({"prompt": "1+1?", "answer": 2}, "line 2 has no column 'question'; its columns are prompt, answer"),
        ({}, "line 2 has no column 'question'; its columns are none"),
        ({"question": " \n", "answer": "2"}, "line 2: column 'question' is empty"),
        ({"question": None, "answer": "2"}, "line 2: column 'question' is empty"),
        ({"question": ["1+1?"], "answer": "2"}, "line 2: column 'question' is of type list; expected a text"),
        ({"question": "1+1?", "answer": ""}, "line 2: column 'answer' is empty"),
        ({"question": "1+1?", "answer": True}, "line 2: column 'answer' is of type bool"),
        (
            {"question": "1+1?", "answer": math.nan},
            "line 2: column 'answer' is nan, which is no finite number; expected",
        ),
        ({"question": "1+1?", "answer": -math.inf}, "line 2: column 'answer' is -inf, which is no finite number"),
        (
            {"question": "1+1?", "answer": "2 ####"},
            "line 2 has no gold answer in column 'answer', which ends in '2 ####'",
        ),
        ({"question": "1+1?", "answer": r"\boxed{2"}, "inside a closed \\boxed{}"),
        ({"question": "\ud800", "answer": "2"}, "line 2: column 'question' is half of a surrogate pair"),
    ],
)
def test_a_malformed_row_is_told_with_its_place_and_the_fix(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = write(tmp_path / "a.jsonl", [*sums(0, 1), row])
    with pytest.raises(ValueError, match=re.escape(reason)):
        drawn(path)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"path": Path("a.csv")}, "does not end in"),
        ({"benchmark_path": Path("a")}, "does not end in"),
        ({"answer_column": "question"}, "must differ"),
        ({"answer_column": "gold", "prompt": "{question} {gold}"}, "shows the gold answer"),
        ({"prompt": "{question} {answer}"}, "shows the gold answer"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_file_is_read(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FileProblems(**{"path": Path("a.jsonl")} | settings)


def test_the_order_is_the_seeds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", sums(0, 50))
    questions = [problem.question for problem in drawn(path)]
    assert questions == [problem.question for problem in drawn(path)]
    assert questions != [row["question"] for row in sums(0, 50)]
    assert questions != [problem.question for problem in drawn(path, seed=1)]
    assert [problem.position for problem in drawn(path)] == list(range(50))


def test_new_rows_and_another_order_of_rows_leave_the_others_in_order(tmp_path: Path) -> None:
    before = drawn(write(tmp_path / "a.jsonl", sums(0, 50)))
    after = drawn(write(tmp_path / "a.jsonl", sums(0, 60)[::-1]))
    known = {problem.problem_id for problem in before}
    assert [p.problem_id for p in after if p.problem_id in known] == [p.problem_id for p in before]


def test_a_benchmark_file_alone_makes_benchmark_and_final_and_never_trains(tmp_path: Path) -> None:
    train, bench = write(tmp_path / "train.jsonl", sums(0, 20)), write(tmp_path / "bench.jsonl", sums(15, 25))
    maker = file_maker(FileProblems(path=train, benchmark_path=bench))
    source = Source(maker, Splits(benchmark=6, final=4, development=5))
    reserved = source.reserved()
    held_out = {problem.question for split in ("benchmark", "final") for problem in reserved[split]}
    others = {problem.question for problem in [*reserved["development"], *source.train()]}
    assert held_out == {row["question"] for row in sums(15, 25)}
    assert others == {row["question"] for row in sums(0, 15)}
    assert {problem.source for problem in reserved["final"]} == {"file:bench.jsonl"}
    assert source.capacity() == Capacity(
        count=15, exact=True, note="5 of 20 questions are in the benchmark file too and never train"
    )


def test_running_dry_names_the_file_to_lengthen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", sums(0, 10))
    with pytest.raises(RanDry) as refusal:
        Source(file_maker(FileProblems(path=path)), Splits(benchmark=2, final=2, development=2)).draw_new(9, used=())
    assert str(refusal.value) == (
        "file:a.jsonl has run dry: 9 new problems are asked for and 4 are left of 10 problems. "
        f"Ask for fewer new ones, or add rows to {path}."
    )


def test_a_typed_question_has_no_gold_answer() -> None:
    problem = file_maker(FileProblems(path=Path("a.jsonl"), prompt="Q: {question}")).parse("6 times 7?")
    assert (problem.prompt, problem.answer, problem.verifier) == ("Q: 6 times 7?", "", "math")
