"""docs/questions.md is what storage/sql/questions/ holds, and every question has an answer, on a lake without rows too.

`python tests/test_questions_docs.py` rewrites the page.
"""

import sys
from itertools import takewhile
from pathlib import Path

import pytest

from storage.home import Home
from storage.lake import Lake
from storage.warehouse import Question, Warehouse, questions

PAGE = Path(__file__).parents[1] / "docs" / "questions.md"
COMMAND = ".venv/bin/python tests/test_questions_docs.py"
INTRODUCTION = """\
# Questions

What people ask of a wheel that turns, each with the query that answers it. A question is asked by its name,

```sh
flywheel sql accuracy_by_round
```

and `flywheel sql --list` lists the names; yours are listed too, once they lie as `NAME.sql` in the home's folder
`queries/` ([how](operations.md#asking)). The tables are explained in [warehouse.md](warehouse.md). In the published
`warehouse.duckdb` these run as well, but for two that need the tokens' log-probabilities.

"""
SECTIONS = {
    "Is it getting better?": [
        "accuracy_by_round", "decisions", "claims", "accuracy_by_difficulty", "pass_at_8_over_greedy",
        "flipped_problems", "never_solved_on_benchmark", "time_between_promotions", "cost_of_a_point",
    ],
    "What does search find?": [
        "solved_by_round", "solved_by_difficulty", "solved_by_attempts", "unsolved_problems", "reasons_by_round",
        "truncated_by_round", "tokens_per_solved_problem", "entropy_by_round", "sureness_of_right_and_wrong",
        "length_of_right_and_wrong", "preflight_and_now", "solved_by_strategy", "tree_shapes", "value_calibration",
        "budgets",
    ],
    "How does the policy reason?": [
        "behaviours", "behaviours_by_round", "self_correction_lift", "alternative_proposal_lift",
    ],
    "What trains?": [
        "filter_reasons", "duplicates_by_round", "new_solutions_by_round", "teaching_value", "new_and_known_problems",
        "age_of_training_set", "trained_on", "training",
    ],
    "Can it be trusted?": ["leakage", "lineage", "rollbacks", "seconds_by_stage"],
}  # fmt: skip
NAMES = [name for names in SECTIONS.values() for name in names]


def known() -> dict[str, Question]:
    """Those that come with the flywheel."""
    return questions(Home(Path("nowhere")))


def written() -> str:
    """The page."""
    return INTRODUCTION + "\n".join(section(title, names) for title, names in SECTIONS.items())


def section(title: str, names: list[str]) -> str:
    return "\n".join([f"## {title}\n", *(entry(known()[name]) for name in names)])


def entry(question: Question) -> str:
    lines = question.sql.splitlines()
    comments = [line.removeprefix("--").strip() for line in takewhile(lambda line: line.startswith("--"), lines)]
    query = "\n".join(lines[len(comments) :])
    reading = " ".join(comments[1:])
    return f"### {comments[0]}\n\n`{question.name}`: {reading}\n\n```sql\n{query}\n```\n"


def test_the_page_is_what_the_queries_are() -> None:
    if PAGE.read_text(encoding="utf-8") != written():
        pytest.fail(f"{PAGE.name} is not what the queries are; `{COMMAND}` rewrites it.", pytrace=False)


def test_every_question_is_on_the_page_once() -> None:
    assert sorted(NAMES) == list(known()) and len(NAMES) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_a_question_is_one_with_a_word_on_its_answer(name: str) -> None:
    first, second, *_ = known()[name].sql.splitlines()
    assert first.startswith("-- ") and first.endswith("?")
    assert second.startswith("-- ")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    lake = Lake(Home.open(tmp_path_factory.mktemp("empty")))
    lake.seed()
    return Warehouse(lake.home)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_has_an_answer_where_nothing_was_done_yet(name: str, empty: Warehouse) -> None:
    assert empty.ask(known()[name].sql).width > 1


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
    print(f"rewrote {PAGE}", file=sys.stderr)
