"""The six behaviours, in chains of steps and in prose."""

import time

import pytest

from models.reward.behaviours import recognise


@pytest.mark.parametrize(
    ("text", "behaviours"),
    [
        ("", []),
        ("26-4-7", []),
        ("26-4=22,7;", []),
        ("26-4-7=15", ["task_completion"]),
        ("26-4=22,7;22-7=15;", ["task_completion", "task_decomposition"]),
        ("26-4=22,7;?22+4=26;22-7=15;", ["self_evaluation", "task_completion", "task_decomposition"]),
        ("26-4=21,7;~26-4=22,7;", ["self_correction", "task_decomposition"]),
        ("26+4=30,7;!26-4=22,7;", ["alternative_proposal", "task_decomposition"]),
        ("26-4=22,7;22-7=15;!", ["task_decomposition"]),
    ],
)
def test_marks_of_the_grammar(text: str, behaviours: list[str]) -> None:
    assert recognise(text) == behaviours


@pytest.mark.parametrize(
    ("text", "behaviours"),
    [
        ("We need to find x.", ["problem_analysis"]),
        ("The problem asks for the sum.", ["problem_analysis"]),
        ("Step 1: add. Next, divide.", ["task_decomposition"]),
        ("Therefore, x = 5.", ["task_completion"]),
        ("So \\boxed{5}", ["task_completion"]),
        ("#### 5 apples", ["task_completion"]),
        ("Alternatively, factor it.", ["alternative_proposal"]),
        ("LET ME CHECK that.", ["self_evaluation"]),
        ("Wait, that's wrong.", ["self_correction"]),
        ("Wait, that’s wrong.", ["self_correction"]),
        ("Let’s verify.", ["self_evaluation"]),
        ("The waiter awaits; a blunderstep 1.", []),
        ("x = 5! Is it? ~5", []),
    ],
)
def test_cues_of_prose(text: str, behaviours: list[str]) -> None:
    assert recognise(text) == behaviours


@pytest.mark.parametrize("unit", ["=", "!", "wait", "let me ", "a", "first", "26-4=22,7;", "we need "])
def test_time_is_linear_in_length(unit: str) -> None:
    started = time.process_time()
    recognise(unit * (500_000 // len(unit)))
    assert time.process_time() - started < 3
