import pytest

from models.search.choice import CHOICES


@pytest.mark.parametrize(
    ("choice", "answers", "values", "place"),
    [
        ("first", ["", "7", "8", "8"], [0.1, 0.2, 0.9, 0.9], 1),
        ("majority", ["7", "8", "", "8"], [0.9, 0.1, 0.0, 0.1], 1),
        ("majority", ["8", "7", "7", "8"], [0.1] * 4, 0),
        ("weighted", ["7", "8", "", "8"], [0.9, 0.1, 5.0, 0.1], 0),
        ("weighted", ["7", "8", "8", "9"], [0.5, 0.3, 0.3, 0.55], 1),
        ("first", ["", ""], [0.0, 0.0], 0),
        ("majority", ["", ""], [0.0, 0.0], 0),
    ],
)
def test_the_chosen_attempt(choice: str, answers: list[str], values: list[float], place: int) -> None:
    assert CHOICES[choice](answers, values) == place
