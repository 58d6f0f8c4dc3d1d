"""Finding the answer in a text."""

import pytest

from models.reward.text import find_boxed, find_tagged


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a <answer> 5 </answer> b", "5"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        ("<answer>1</answer><answer>2", "1"),
        ("<answer></answer>", ""),
        ("</answer>5<answer>", None),
        ("5", None),
    ],
)
def test_tagged(text: str, found: str | None) -> None:
    assert find_tagged(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\\boxed{ 5 } b", "5"),
        ("\\boxed{1} \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}} }", "\\frac{1}{2}"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("\\boxed{}", ""),
        ("\\boxed{5", None),
        ("5", None),
    ],
)
def test_boxed(text: str, found: str | None) -> None:
    assert find_boxed(text) == found
