import re
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from models.reward.behaviours import recognise
from models.reward.countdown import judge
from storage.countdown import CountdownProblems, Move, is_for_demonstrations, parse_game
from storage.demonstrations import (
    BEHAVIOURS,
    CHARACTERS,
    Demonstration,
    countdown_demonstrations,
    file_demonstrations,
    invert,
    keep_apart,
    miscalculate,
    write_alternatives,
    write_check,
    write_correction,
    write_walk,
)
from storage.records import Problem
from storage.sources.countdown import CountdownMaker
from storage.sources.source import typed_problem

WALK = [Move(26, "-", 4, 22, (7,)), Move(22, "-", 7, 15, ())]
OTHER = [Move(26, "+", 4, 30, (7,)), Move(30, "+", 7, 37, ())]


def make(num: int, share: float, seed: int = 0, numbers: int = 3) -> list[Demonstration]:
    settings = CountdownProblems(numbers=numbers)
    return list(islice(countdown_demonstrations(settings, seed=seed, behaviour_share=share), num))


@pytest.mark.parametrize(("numbers", "share"), [(3, 0.0), (3, 1.0), (4, 0.5), (2, 0.5)])
def test_every_demonstration_is_legal_play_that_ends_among_the_targets(numbers: int, share: float) -> None:
    for demonstration in make(300, share, numbers=numbers):
        given, target = parse_game(demonstration.prompt)
        judgement = judge(given, target, demonstration.completion)
        assert judgement.reason in ("solved", "wrong"), demonstration
        end = int(re.findall(r"=(\d+);", re.sub(r"\?[^;]*;", "", demonstration.completion))[-1])
        assert end in range(10, 101)
        assert judge(given, end, demonstration.completion).solved, demonstration
        assert judgement.solved == (end == target)


def test_targets_are_met_by_chance_only() -> None:
    solved = sum(judge(*parse_game(d.prompt), d.completion).solved for d in make(3000, 0.0))
    assert solved < 0.03 * 3000


def test_number_sets_are_the_demonstrations_own() -> None:
    assert all(is_for_demonstrations(parse_game(d.prompt)[0]) for d in make(500, 0.3))


def test_each_behaviour_is_recognised_where_it_is_shown_and_each_is_as_likely() -> None:
    shown = [set(recognise(d.completion)) & BEHAVIOURS.keys() for d in make(1500, 1.0)]
    assert {len(behaviours) for behaviours in shown} == {1}
    counts = Counter(behaviour for (behaviour,) in shown)
    assert counts.keys() == BEHAVIOURS.keys()
    assert all(400 < count < 600 for count in counts.values())


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 240, 360), (1.0, 1000, 1000)])
def test_the_share_with_a_behaviour_is_the_one_asked_for(share: float, low: int, high: int) -> None:
    shown = sum(bool(set(recognise(d.completion)) & BEHAVIOURS.keys()) for d in make(1000, share))
    assert low <= shown <= high


def test_the_same_seed_gives_the_same_demonstrations() -> None:
    assert make(50, 0.3, seed=1) == make(50, 0.3, seed=1) != make(50, 0.3, seed=2)


def test_texts_use_the_characters_of_the_game_only() -> None:
    assert set("".join(d.prompt + d.completion for d in make(500, 0.5))) <= set(CHARACTERS)


def test_writers_write_the_grammar() -> None:
    assert write_walk(iter([WALK]), Random(0)) == "26-4=22,7;22-7=15;"
    assert write_check(iter([WALK]), Random(0)) == "26-4=22,7;?22+4=26;22-7=15;?15+7=22;"
    assert write_alternatives(iter([OTHER, WALK, OTHER, WALK]), Random(3)).startswith("26+4=30,7;30+7=37;!26-4=22,7;")
    corrected = {write_correction(iter([WALK]), Random(seed)) for seed in range(50)}
    assert corrected == {
        *(f"26-4={slip},7;~26-4=22,7;22-7=15;" for slip in (23, 24, 32)),
        *(f"26-4=22,7;22-7={slip};~22-7=15;" for slip in (16, 17, 25)),
    }


@pytest.mark.parametrize(
    ("move", "check"),
    [
        (Move(3, "+", 4, 7, ()), "7-4=3;"),
        (Move(9, "-", 4, 5, ()), "5+4=9;"),
        (Move(3, "*", 4, 12, ()), "12/4=3;"),
        (Move(12, "/", 4, 3, ()), "3*4=12;"),
        (Move(5, "*", 0, 0, ()), "0*5=0;"),
        (Move(0, "*", 5, 0, ()), "0/5=0;"),
        (Move(0, "*", 0, 0, ()), "0*0=0;"),
        (Move(0, "/", 5, 0, ()), "0*5=0;"),
    ],
)
def test_a_check_reads_the_step_backwards(move: Move, check: str) -> None:
    assert invert(move) == check
    assert judge((move.left, move.right), move.result, move.write() + "?" + check).solved


def test_a_miscalculation_is_a_little_off() -> None:
    assert {miscalculate(WALK[0], Random(seed)) for seed in range(30)} == {"26-4=23,7;", "26-4=24,7;", "26-4=32,7;"}


def test_settings_that_leave_no_number_set_are_told_instead_of_tried_for_ever() -> None:
    settings = CountdownProblems(numbers=2, max_value=1, min_target=50)
    with pytest.raises(ValueError, match=r"2 numbers from 1 to 1 gave none .* raise max_value"):
        next(countdown_demonstrations(settings, seed=0, behaviour_share=0.0))


def test_rows_of_a_file_are_demonstrations(tmp_path: Path) -> None:
    path = tmp_path / "demonstrations.jsonl"
    path.write_text('{"prompt": "1+1?", "completion": "2", "source": "me"}\n\n{"prompt": "é\\n", "completion": " 3"}\n')
    assert list(file_demonstrations(path)) == [
        Demonstration(prompt="1+1?", completion="2"),
        Demonstration(prompt="é\n", completion=" 3"),
    ]


def kept(prompts: list[str], reserved: Problem) -> list[str]:
    demonstrations = [Demonstration(prompt=prompt, completion="2") for prompt in prompts]
    return [demonstration.prompt for demonstration in keep_apart(demonstrations, [reserved])]


def test_demonstrations_of_a_reserved_question_are_left_out_with_and_without_the_template() -> None:
    reserved = typed_problem("What is aB + 3²?", "file:a", "Q: {question}\nA:")
    same = ["What is aB + 3²?", " What is\naB + 3²?", "Q: What is aB + 3²?\nA:", "Q:  What is aB + 3²? A:\n"]
    others = ["What is Ab + 3²?", "What is aB + 32?", "Q: What is aB?\nA:"]
    assert kept(same + others, reserved) == others


def test_demonstrations_of_a_reserved_game_are_left_out_in_any_order_of_its_numbers() -> None:
    reserved = CountdownMaker(CountdownProblems(prompt="{target} of {numbers};")).parse("4 26 7>15")
    same = ["15 of 4 7 26;", "15 of 26, 4,7;", "4 7 26>15", "7 26 4>15"]
    others = ["26 of 4 7 15;", "15 of 4 7 27;", "15 of 4 726;", "4 7 26>150"]
    assert kept(same + others, reserved) == others


def test_the_order_of_numbers_tells_where_there_is_no_game() -> None:
    assert kept(["Sort 2 1", "Sort 1 2"], typed_problem("Sort 1 2", "file:a", "{question}")) == ["Sort 2 1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "1+1?"}', r"demos\.jsonl, line 2 has prompt; expected a prompt and a completion"),
        ('{"prompt": "1+1?", "completion": ""}', r"demos\.jsonl, line 2 has prompt, completion; expected"),
        ('{"prompt": 7, "completion": "2"}', r"demos\.jsonl, line 2 has prompt, completion; expected"),
        ('{"prompt": null, "completion": "2"}', r"demos\.jsonl, line 2 has"),
        ("{}", r"demos\.jsonl, line 2 has nothing; expected"),
        ('["1+1?", "2"]', r"demos\.jsonl, line 2 is an array"),
        ('{"prompt": "1+1?",', r"demos\.jsonl, line 2 is not valid JSON"),
    ],
)
def test_a_malformed_row_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "demos.jsonl"
    path.write_text('{"prompt": "1+1?", "completion": "2"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        list(file_demonstrations(path))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        list(file_demonstrations(tmp_path / "nowhere.jsonl"))
