"""New problems of a round come from the source, which may have grown."""

from pathlib import Path

from storage.lake import Lake
from storage.problems import open_source
from storage.sources.source import Splits
from tasks.sample import draw_new
from tests.tasks.test_initialize import PROBLEMS, make_problems, make_turn, reserved, write


def test_what_is_reserved_stays_so_when_the_source_grows(tmp_path: Path) -> None:
    questions = reserved(tmp_path)
    grown = [*PROBLEMS, *(f"What is {n} times {n}?" for n in range(90))]
    write(tmp_path / "problems.jsonl", [{"question": question, "answer": "2"} for question in grown])
    source = open_source(make_problems(tmp_path), Splits(benchmark=2, final=2, development=2))
    now = {problem.question for problems in source.reserved().values() for problem in problems}
    assert not set(questions) <= now, "the source would reserve others"
    new = draw_new(make_turn(tmp_path), source, 1000)
    assert len(new) > 80 and not {problem.question for problem in new} & {*questions, *now}


def test_steps_of_a_search_that_was_broken_off_are_replaced(tmp_path: Path) -> None:
    reserved(tmp_path)
    lake = Lake(make_turn(tmp_path).home)
    (first, *_, last) = lake.read("problems", "line-reserved")
    lake.publish("problems", "part", [first])
    lake.republish("problems", "part", [last])
    assert lake.read("problems", "part") == [last]
