"""Mathematical answers judged by the real math-verify."""

import multiprocessing
from collections.abc import Iterator
from time import process_time

import pytest

from models.reward.math import MathVerifier, find_answer, vote_of
from models.reward.protocol import Judgement
from storage.records import Problem

Pairs = list[tuple[str, str]]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier()
    yield verifier
    verifier.isolated.close()


def judge(verifier: MathVerifier, pairs: Pairs) -> list[Judgement]:
    """Judge (gold, text) pairs."""
    return verifier.judge([(problem(gold), text) for gold, text in pairs])


def problem(gold: str) -> Problem:
    return Problem(problem_id="p", source="s", split="train", prompt="", question="", answer=gold, verifier="math")


def reasons(verifier: MathVerifier, pairs: Pairs) -> dict[tuple[str, str], str]:
    judgements = judge(verifier, pairs)
    assert all(judgement.solved == (judgement.reason == "solved") for judgement in judgements)
    assert all(len(judgement.answer) <= 200 for judgement in judgements)
    return dict(zip(pairs, (judgement.reason for judgement in judgements), strict=True))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 72", "72"),
        ("48/2 = 24\n#### 72\nbye", "72"),
        ("#### 1\n#### 2", "2"),
        ("so \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{1} or \\boxed{2}", "2"),
        ("\\boxed{ {a}_{b} }", "{a}_{b}"),
        ("<answer> 5 </answer> #### 6", "5"),
        ("The answer is: 5 apples.\nAmen", "5 apples"),
        ("the answer is 4. No, the answer is 5.", "5"),
        ("5", "5"),
        ("**The answer is 18.**", "18"),
        ("The answer is **18**.", "18"),
        ("\\boxed{5", "\\boxed{5"),
        ("", ""),
    ],
)
def test_the_answer_is_found_in_the_text(text: str, answer: str) -> None:
    assert find_answer(text) == answer


SOLVED = [
    ("72", "#### 72"),
    ("72", "She sold 48+24 = \\boxed{72} clips."),
    ("72", "She sold 72 clips altogether"),
    ("#### 72", "72"),
    ("\\boxed{72}", "72.0"),
    ("1000", "1,000"),
    ("1,000", "\\boxed{1000}"),
    ("1000", "\\boxed{1{,}000}"),
    ("1250.5", "$1,250.50."),
    ("-5", "−5"),
    ("0.5", "\\frac{1}{2}"),
    ("1/2", "\\boxed{\\dfrac{1}{2}}"),
    ("\\frac12", "0.5"),
    ("\\frac{7}{2}", "3\\frac{1}{2}"),
    ("0.333333", "\\frac13"),
    ("50\\%", "50"),
    ("50", "50%"),
    ("0.5", "50%"),
    ("5", "5 apples"),
    ("5 dollars", "5"),
    ("5", "The answer is 5 dollars."),
    ("5", "\\boxed{5\\text{ cm}}"),
    ("90^\\circ", "90 degrees"),
    ("2\\sqrt{2}", "\\sqrt{8}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("(1,2)", "(1, 2)"),
    ("[0,1)", "[0,1)"),
    ("\\{1,2\\}", "{2,1}"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
    ("5", "x=5"),
    ("(B)", "The answer is B."),
    ("\\text{Evelyn}", "<answer>evelyn</answer>"),
    ("3\\sqrt{2}", "\\boxed{3\\sqrt{2}\\text{ inches}}"),
    ("3\\sqrt{2}\\text{ inches}", "3\\sqrt{2}"),
    ("12\\pi", "\\boxed{12\\pi \\mbox{ square inches}}"),
    ("12\\pi", "12\\pi square inches"),
    ("1000", "\\boxed{1{,}000\\text{ meters}}"),
    ("\\frac{11}{2}", "\\boxed{5\\frac{1}{2}\\text{ hours}}"),
    ("1024", "\\boxed{2^{10}\\text{ ways}}"),
    ("120", "\\boxed{5!\\text{ ways}}"),
    ("2\\sqrt{3}", "2*sqrt(3)"),
    ("18", "#### **18**"),
    ("18", "The answer is **$18**."),
    ("18", "\\boxed{€18}"),
]


@pytest.mark.parametrize(
    ("answers", "vote"),
    [
        (["$18", "18", "18.00", "**18**"], "18"),
        (["1,000", "1000"], "1000"),
        (["\\text{Evelyn}", "evelyn."], "evelyn"),
        (["x+1"], "x+1"),
        ([""], ""),
    ],
)
def test_equal_answers_are_one_vote(answers: list[str], vote: str) -> None:
    assert {vote_of(answer) for answer in answers} == {vote}


def test_right_answers_in_their_spellings(verifier: MathVerifier) -> None:
    assert reasons(verifier, SOLVED) == dict.fromkeys(SOLVED, "solved")


WRONG = [
    ("72", "#### 73"),
    ("72", "#### 72\n#### 73"),
    ("1/2", "\\frac{1}{3}"),
    ("12", "1 2"),
    ("12", "1\\2"),
    ("12", "1,2"),
    ("5", "1 2 3 4 5 6"),  # guessing at large
    ("5", "\\boxed{3,4,5}"),
    ("5", "\\boxed{4 \\text{ or } 5}"),
    ("5", "[1,2,3,4,5]"),
    ("5", "5 < 6"),
    ("3", "\\boxed{3\\sqrt{2}\\text{ inches}}"),
    ("12", "\\boxed{12\\pi\\text{ square inches}}"),
    ("5", "\\boxed{5!\\text{ ways}}"),
    ("2", "2*sqrt(3)"),
    ("listen", "silent"),  # equal as products of letters
    ("A", "B"),
    ("5", "٥"),
    ("5", "NaN"),
    ("0", "0/0"),
    ("1", "1/0"),
    ("0.5", "0.51"),
    ("5", "-5"),
    ("5", "__import__('os').system('touch x')"),
    ("5", "9**9**9**9"),
    ("9**9**9**9", "9**9**9**9"),
    ("5", "5" * 15_000),
]


def test_wrong_answers_are_wrong(verifier: MathVerifier) -> None:
    assert reasons(verifier, WRONG) == dict.fromkeys(WRONG, "wrong")


UNPARSED = [("5", ""), ("5", "<answer></answer>"), ("5", "#### "), ("5", "5" * 1_000_000), ("5", "\\boxed{" * 150_000)]


def test_nothing_and_the_enormous_are_unparsed(verifier: MathVerifier) -> None:
    assert reasons(verifier, UNPARSED) == dict.fromkeys(UNPARSED, "unparsed")


def test_an_unreadable_gold_answer_is_never_solved(verifier: MathVerifier) -> None:
    golds = ["", "  ", "???", "\\", "{", "\\boxed{}", "#### ", "$$", "()", "…", "-", "=", "<answer>"]
    judgements = judge(verifier, [(gold, text) for gold in golds for text in (gold, f"\\boxed{{{gold}}}", "", "0")])
    assert {judgement.solved for judgement in judgements} == {False}
    assert judge(verifier, [("???", "???")])[0].reason == "error"
    assert judge(verifier, [("", "5")])[0].answer == "the problem has no gold answer"


def test_endless_formulas_cost_a_mark_and_leave_the_others_unharmed(verifier: MathVerifier) -> None:
    pairs = [("1/2", "0.5"), ("5", "((((9!)!)!)!)!"), ("5", "10^{10^{10^{10}}}"), ("2/3", "\\frac{4}{6}")]
    assert list(reasons(verifier, pairs).values()) == ["solved", "timeout", "timeout", "solved"]


def test_time_is_linear_in_length() -> None:
    started = process_time()
    for unit in ("word ", "a", "\\text{", "answer is ", "####", "1,", "\\boxed{"):
        MathVerifier().judge([(problem(unit * (200_000 // len(unit)) + "#1"), unit * (1_000_000 // len(unit)))])
    assert process_time() - started < 5


def test_plain_numbers_need_no_worker() -> None:
    children = multiprocessing.active_children()
    verifier = MathVerifier()
    golds = [str(number) for number in range(20_000)]
    judgements = verifier.judge([(problem(gold), f"#### {gold}") for gold in golds])
    assert all(judgement.solved for judgement in judgements)
    assert multiprocessing.active_children() == children
