"""Countdown's judge: what the rules allow, what they do not, and what tries to break it."""

import ast
import json
import random
from fractions import Fraction
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.reward.countdown import CountdownVerifier, judge
from models.reward.protocol import Judgement
from storage.records import Problem

GAME = (4, 26, 7), 15


def problem(numbers: tuple[int, ...], target: int) -> Problem:
    data = json.dumps({"numbers": numbers, "target": target})
    return Problem(
        problem_id="p", source="countdown", split="train", prompt="", question="", data=data, verifier="countdown"
    )


def reason(text: str, numbers: tuple[int, ...] = GAME[0], target: int = GAME[1]) -> str:
    judgement = judge(numbers, target, text)
    assert judgement.solved == (judgement.reason == "solved")
    return judgement.reason


@pytest.mark.parametrize(
    "text",
    [
        "(26-4)-7",
        "26 - 4 - 7 = 15",
        "26-(4+7)=15;",
        "26 − 4 – 7",
        "<answer>26-4-7</answer>",
        "so \\boxed{26 - 4 - 7 = 15} it is",
        "<answer>1</answer> no: <answer>\\boxed{\\left(26-4\\right)-7}</answer>",
        "26-4=22,7;22-7=15;",
        "26-4=22,7 22;22-7=15",
        "26-4=22;22-7=15;",
        "26 - 4 = 22, 7;\n22 - 7 = 15;\n",
        "26-4=22\n22-7=15",
        "4+7=11,26;26-11=15;",
    ],
)
def test_right_answers_in_their_spellings(text: str) -> None:
    assert reason(text) == "solved"


@pytest.mark.parametrize(
    "text",
    [
        "26-4=22,7;?22+4=26;22-7=15;?15+7=22;",  # checks
        "26-4=22,7;?26-4=22,7;22-7=15;",
        "26-4=21,7;~26-4=22,7;22-7=15;",  # a wrong step, taken back
        "26+4=30,7;30-7=23;~~26-4=22,7;22-7=15;",  # two steps taken back
        "26-4=21,7;?21+4=26;~26-4=22,7;22-7=15;",  # a step and its check taken back
        "nonsense;~;26-4=22,7;22-7=15;",
        "26*4=104,7;104+7=111;!26-4=22,7;22-7=15;",  # an alternative
        "1;2;3!26-4-7",
    ],
)
def test_checks_corrections_and_alternatives(text: str) -> None:
    assert reason(text) == "solved"


@pytest.mark.parametrize(
    "text",
    [
        "26-4=21,7;21-7=15;",  # a step that does not hold
        "26-4=22,7;22-7=14;",
        "26-4=22,8;22-7=15;",  # a rest that is not left
        "26-4=22,4 7;22-7=15;",
        "26-11=15;",  # a number that is not at hand
        "26-4=22,7;22-7=15;15-4=11;",
        "26-4=22,7;26-4=22,7;22-7=15;",
        "22-7=15;",  # a number unused
        "26-4=22,7;",
        "26-11=15",
        "26-4-7-0",
        "26-4-7+4-4",
        "26-4-4-7",
        "?22+4=26;26-4=22,7;22-7=15;",  # a check of nothing
        "26-4=22,7;?22+4=27;22-7=15;",  # a check that does not hold
        "26-4=22,7;?7+4=11;22-7=15;",  # a check of something else
        "~26-4=22,7;22-7=15;",  # nothing to take back
        "26-4=22,7;~~22-7=15;",
        "?22+4=26;~26-4=22,7;22-7=15;",
        "26-4=22,7;22-7=15;!26+4=30,7;30+7=37;",  # the last alternative counts
        "26-4-7=14",
        "(26-4)*7",
        "26/(7-7)*4",
        "26/0=0,4 7;",
        "26-4=22,7;22/7=3;",
        "4-26=-22,7;",
        "4-26=-22,7;-22+7=15;",
        "4/26=2/13,7;2/13-7=15;",
        "<answer>26-4-7</answer><answer>26+4+7</answer>",
    ],
)
def test_what_breaks_the_rules_is_wrong(text: str) -> None:
    assert reason(text) == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "!",
        "26-4=22,7;22-7=15;!",
        "26-4=22,7;22-7=",
        "26-4=22,7;22-7=15;and so",
        "Max(26,4,7)",
        "26-4-7j",
        "2**6",
        "26//4",
        "26%4",
        "-4+26-7",
        "26+-4",
        "26.0-4-7",
        "2.6e1-4-7",
        "26-4-7==15",
        "26-4-7=15=15",
        "26-4-7=x",
        "026-4-7",
        "2 6-4-7",
        "26-4-7)",
        "((26-4-7)",
        "()26-4-7",
        "26(-4)-7",
        "26-4-7#",
        "26-4-7,",
        "٢٦-٤-٧",
        "２６-４-７",
        "26➖4➖7",
        "26-4-⁷",
        "26-4-7\u200b",
        "26-4-7\x00",
        "\ud800",
        "__import__('os').system('touch x')",
        "26-4-7 if 1 else 0",
        "lambda:26-4-7",
        "9**9**9**9",
    ],
)
def test_what_is_not_in_the_grammar_is_unparsed(text: str) -> None:
    assert reason(text) == "unparsed"


@pytest.mark.parametrize(
    ("numbers", "target", "text"),
    [((12, 9, 5), 12, "Max(12,9,5)"), ((3, 7, 10), 37, "3.7*10"), ((3, 2, 4), 13, "3**2+4"), ((3, 2), 9, "3^2")],
)
def test_what_the_library_would_accept_is_not_solved(numbers: tuple[int, ...], target: int, text: str) -> None:
    assert reason(text, numbers, target) == "unparsed"


def test_an_expression_may_pass_through_negatives_and_fractions_exactly() -> None:
    assert reason("(4-26)+37", (4, 26, 37), 15) == "solved"
    assert reason("(1/3)*(6/2)", (1, 3, 6, 2), 1) == "solved"
    assert reason("8/(3-8/3)", (8, 3, 8, 3), 24) == "solved"
    assert reason("7/2*2", (7, 2, 2), 7) == "solved"
    assert reason("7/2=3,2;3*2=6;", (7, 2, 2), 6) == "wrong"
    assert (
        reason("999999999999*999999999999/999999999998", (999999999999, 999999999999, 999999999998), 10**12) == "wrong"
    )


@pytest.mark.parametrize(
    ("numbers", "target", "text"),
    [
        ((3, 5, 10), 8, "3-5=-2,10;-2+10=8;"),
        ((3, 5, 10), 8, "3 - 5 = (-2), 10\n10 + (-2) = 8"),
        ((3, 5, 10), 8, "3-5=-2,10 -2;?-2+5=3;10+-2=8"),
        ((3, 5, 10), 12, "3-5=-2;10--2=12"),
        ((8, 3, 3, 8), 24, "8/3=8/3;3-8/3=1/3;8/(1/3)=24"),
        ((8, 3, 3, 8), 24, "8 / 3 = 8 / 3, 3 8; 3 - 8 / 3 = (1 / 3), 8; 8 / (1 / 3) = 24"),
        ((8, 3, 3, 8), 24, "8/3=16/6,8/3 3 8;?16/6*3=8;3-8/3=1/3,8;8/(1/3)=24"),
        ((4, 6, 12), 8, "4/6=2/3,12;2/3/12=1/18;~2/3*12=8"),
    ],
)
def test_a_chain_may_pass_through_negatives_and_fractions_exactly(
    numbers: tuple[int, ...], target: int, text: str
) -> None:
    assert reason(text, numbers, target) == "solved"


@pytest.mark.parametrize(
    ("numbers", "target", "text", "expected"),
    [
        ((8, 3, 3, 8), 24, "8/3=8/3;3-8/3=1/3;8/1/3=24", "wrong"),  # (8/1)/3, as an expression is read
        ((8, 2, 4), 2, "8/4+2=4;4-2=2", "wrong"),  # two steps in one
        ((3, 5, 10), 8, "3-5=--2;-2+10=8", "unparsed"),
        ((3, 5, 10), 8, "3-5=-(2);-2+10=8", "unparsed"),
        ((3, 5, 10), 8, "3-5=((-2));-2+10=8", "unparsed"),
        ((3, 5, 10), 8, "3/5=.6;.6*10=6", "unparsed"),
        ((3, 5, 10), 8, "3/5=3/0;3/5*10=6", "unparsed"),
        ((3, 5, 10), 6, "3/5=3/5;3/5*10=6", "solved"),
        ((8, 4, 2), 4, "8/4+2=4", "solved"),  # an expression
        ((3, 2, 4), 6, "3/2*4=6", "solved"),
        ((3, 5), 2, "3-5=-2", "wrong"),
        ((3, 5), 2, "3-5=(-2)", "wrong"),
    ],
)
def test_a_step_is_one_step_on_values_at_hand(numbers: tuple[int, ...], target: int, text: str, expected: str) -> None:
    assert reason(text, numbers, target) == expected


def test_equal_numbers_are_used_as_often_as_they_are_given() -> None:
    assert reason("5*5-5", (5, 5, 5), 20) == "solved"
    assert reason("5*5", (5, 5, 5), 25) == "wrong"
    assert reason("5*5=25,5;25-5=20;", (5, 5, 5), 20) == "solved"
    assert reason("5*5-5+5", (5, 5, 5), 25) == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        "9" * 1_000_000,
        "(" * 1_000_000,
        "\\boxed{" * 150_000,
        "\\boxed{" + "{" * 1_000_000,
        "<answer>" * 125_000,
        "~" * 1_000_000,
        "!" * 1_000_000,
        ";" * 1_000_000,
        "1-1=0;" * 160_000,
        "-1/2--1/2=0;" * 300,
        "26-4=22," + "1/3 " * 990 + ";",
        "26-4=22," + "-1 (1 / 2) " * 360,
        "(-1/2)/(-1/2)=" + "(" * 3_000,
        "26/4=26/4/" + "9/" * 1_900,
        "-" * 3_900 + "1=1;1-1=0",
        "999999999999/999999999998=999999999999/999999999998;" * 70,
        " " * 999_999 + "1",
        "+".join(["26"] * 1_000),
        "*".join(["999999999999"] * 300),
        "/".join(["999999999999"] * 300),
        "(" * 51 + "26-4-7" + ")" * 51,
        "(" * 2_000 + ")" * 2_000,
        "é" * 1_000_000,
    ],
)
def test_enormous_answers_cost_a_mark_and_little_time(text: str) -> None:
    started = process_time()
    judgement = judge(*GAME, text)
    assert not judgement.solved
    assert len(judgement.answer) <= 200
    assert process_time() - started < 1


def test_long_thinking_before_the_answer_is_no_fault() -> None:
    assert reason("hm " * 300_000 + "<answer>26-4-7</answer>") == "solved"
    assert reason("(" * 50 + "26-4-7" + ")" * 50) == "solved"


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (["26-4-7", "(26-4)-7=15", "26-4=22,7;22-7=15;", "((26)-(4))-7"], "(26-4)-7"),
        (["26-(4+7)", "26-(7+4)", "7+4=11,26;26-11=15;"], "26-(4+7)"),
    ],
)
def test_reorderings_have_one_canonical_expression(texts: list[str], canonical: str) -> None:
    assert {judge(*GAME, text).answer for text in texts} == {canonical}


def test_canonical_expressions_flatten_sums_and_products() -> None:
    numbers, target = (2, 3, 4, 5), 24
    texts = ["2*5+(3*4)+2", "2*(3+4+5)", "(5+4+3)*2", "3+5=8,2 4;8+4=12,2;2*12=24;", "(4+(5+3))*2"]
    assert [judge(numbers, target, text).answer for text in texts[1:]] == ["(3+4+5)*2"] * 4
    assert not judge(numbers, target, texts[0]).solved


def test_one_judgement_an_attempt_in_order() -> None:
    attempts = [(problem(*GAME), "26-4-7"), (problem((1, 2), 3), "1+2"), (problem((1, 2), 3), "?")]
    assert CountdownVerifier().judge(attempts) == [
        Judgement(solved=True, reason="solved", answer="(26-4)-7"),
        Judgement(solved=True, reason="solved", answer="1+2"),
        Judgement(solved=False, reason="unparsed", answer="?"),
    ]


def test_a_problem_without_rules_is_an_error_that_shows_them() -> None:
    broken = Problem(
        problem_id="p", source="s", split="train", prompt="", question="", data='{"numbers": [1]}', verifier="countdown"
    )
    with pytest.raises(ValueError, match="expected"):
        CountdownVerifier().judge([(broken, "1")])


# Against the slow and obvious.

OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def evaluate(node: ast.expr, used: list[int]) -> Fraction:
    """The value of Python's own syntax tree, if it has whole numbers and four operators only; else ValueError."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = evaluate(node.left, used), evaluate(node.right, used)
        operator = OPERATORS[type(node.op)]
        return {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)
    raise ValueError


def is_solved_slowly(text: str, numbers: tuple[int, ...], target: int) -> bool:
    used: list[int] = []
    try:
        value = evaluate(ast.parse(text.strip(), mode="eval").body, used)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    return sorted(used) == sorted(numbers) and value == target


@st.composite
def expressions(draw: st.DrawFn, numbers: tuple[int, ...]) -> str:
    """Any expression over these numbers, with parentheses here and there."""
    if len(numbers) == 1:
        return str(numbers[0])
    cut = draw(st.integers(1, len(numbers) - 1))
    left, right = draw(expressions(numbers[:cut])), draw(expressions(numbers[cut:]))
    shape = draw(st.sampled_from(["{}{}{}", "({}){}({})", "({}{}{})", "{} {} ({})"]))
    return shape.format(left, draw(st.sampled_from("+-*/")), right)


@st.composite
def games(draw: st.DrawFn) -> tuple[tuple[int, ...], int, str]:
    """Numbers, a target that is often hit, and an expression."""
    numbers = tuple(draw(st.lists(st.integers(1, 12), min_size=2, max_size=5)))
    text = draw(expressions(tuple(draw(st.permutations(numbers)))))
    try:
        value = evaluate(ast.parse(text, mode="eval").body, [])
    except ZeroDivisionError:
        value = Fraction(1, 2)
    wanted = int(value) if value.denominator == 1 else 1
    return numbers, draw(st.sampled_from([wanted, wanted, wanted + 1])), text


@settings(max_examples=500, deadline=None)
@given(games())
def test_expressions_are_judged_as_a_slow_evaluation_does(game: tuple[tuple[int, ...], int, str]) -> None:
    numbers, target, text = game
    assert judge(numbers, target, text).solved == is_solved_slowly(text, numbers, target)


@settings(max_examples=500, deadline=None)
@given(st.text("123+-*/() ", max_size=9))
def test_any_text_is_judged_as_a_slow_evaluation_does(text: str) -> None:
    for numbers, target in [((1, 2), 3), ((3, 2, 1), 6), ((12, 3), 4)]:
        assert judge(numbers, target, text).solved == is_solved_slowly(text, numbers, target)


@settings(max_examples=300, deadline=None)
@given(games())
def test_a_canonical_expression_is_judged_as_its_origin(game: tuple[tuple[int, ...], int, str]) -> None:
    numbers, target, text = game
    judgement = judge(numbers, target, text)
    if judgement.solved:
        assert judge(numbers, target, judgement.answer) == judgement


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    assert judge(*GAME, text).reason in ("solved", "wrong", "unparsed")


def play(numbers: tuple[int, ...], rng: random.Random) -> tuple[str, list[str]]:
    """A random chain of whole-number steps, and the expression it stands for."""
    pool = [(number, str(number)) for number in numbers]
    steps = []
    while len(pool) > 1:
        rng.shuffle(pool)
        (a, a_text), (b, b_text) = pool[:2]
        operator = rng.choice([op for op in "+-*/" if (op != "-" or a >= b) and (op != "/" or (b and a % b == 0))])
        c = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[operator]
        rest = " ".join(str(value) for value, _ in pool[2:])
        steps.append(f"{a}{operator}{b}={c}" + (f",{rest}" if rest else ""))
        pool = [*pool[2:], (c, f"({a_text}{operator}{b_text})")]
    return pool[0][1], steps


def test_chains_stand_for_their_expressions_and_fall_with_any_wrong_result() -> None:
    rng = random.Random(0)
    for _ in range(2_000):
        numbers = tuple(rng.randint(1, 30) for _ in range(rng.randint(2, 5)))
        expression, steps = play(numbers, rng)
        target = int(evaluate(ast.parse(expression, mode="eval").body, []))
        judgement = judge(numbers, target, ";".join(steps) + ";")
        assert judgement.solved
        assert judge(numbers, target, expression).solved
        assert judge(numbers, target, judgement.answer) == judgement
        spoilt = rng.randrange(len(steps))
        left, result = steps[spoilt].split("=")
        value, comma, rest = result.partition(",")
        steps[spoilt] = f"{left}={int(value) + 1}{comma}{rest}"
        assert not judge(numbers, target, ";".join(steps)).solved


# Through negative numbers and fractions.


@st.composite
def spellings(draw: st.DrawFn, value: Fraction, is_divisor: bool = False) -> str:
    """A value in a step; a bare fraction after a division sign would be read as two divisions."""
    text = str(value)
    return f"({text})" if (is_divisor and "/" in text) or draw(st.booleans()) else text


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], Fraction, str, str]:
    """Numbers, where any chain of steps on them ends, the chain, and the expression that it stands for."""
    numbers = tuple(draw(st.lists(st.integers(1, 12), min_size=2, max_size=5)))
    pool, steps = [(Fraction(number), str(number)) for number in numbers], []
    while len(pool) > 1:
        (a, left), (b, right), *others = draw(st.permutations(pool))
        operator = draw(st.sampled_from("+-*/" if b else "+-*"))
        c = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[operator]
        rest = [draw(spellings(value)) for value, _ in others] if draw(st.booleans()) else []
        step = [draw(spellings(a)), operator, draw(spellings(b, operator == "/")), "=", draw(spellings(c))]
        steps.append("".join(step) + ("," + " ".join(rest) if rest else ""))
        pool = [*others, (c, f"({left}{operator}{right})")]
    return numbers, pool[0][0], ";".join(steps) + draw(st.sampled_from(["", ";"])), pool[0][1]


@settings(max_examples=500, deadline=None)
@given(chains(), st.sampled_from([0, 0, 1]))
def test_any_chain_is_judged_as_its_expression(chain: tuple[tuple[int, ...], Fraction, str, str], off: int) -> None:
    numbers, end, steps, expression = chain
    target = int(end) + off
    expected = "solved" if end == target else "wrong"
    assert (reason(steps, numbers, target), reason(expression, numbers, target)) == (expected, expected)


@settings(max_examples=500, deadline=None)
@given(st.text("123+-*/() =;,?~", max_size=24))
def test_no_text_is_solved_but_by_an_expression_of_the_numbers(text: str) -> None:
    for numbers, target in [((1, 2), 3), ((3, 2, 1), 6), ((12, 3), 4)]:
        judgement = judge(numbers, target, text)
        assert not judgement.solved or is_solved_slowly(judgement.answer, numbers, target)
