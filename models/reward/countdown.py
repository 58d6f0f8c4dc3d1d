"""Judges Countdown: reach the target from the given numbers, each used exactly once.

The parser is our own, because the library's evaluates text and gives full marks
to `Max(12,9,5)`, `3.7*10` and `3**2+4`. It reads integers, + - * / and parentheses
in exact arithmetic, as one expression (`(26-4)-7 = 15`) or as a chain of steps
(`26-4=22,7;22-7=15;`), which is expanded to the expression that it stands for.
Steps may pass through negative numbers and fractions too: `8/3=8/3;3-8/3=1/3;8/(1/3)=24`.
"""

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from models.reward.protocol import Judgement
from models.reward.text import find_boxed, find_tagged
from storage.records import Problem

MAX_CHARS = 4_000
"""An answer (not the thinking before its mark) longer than this is not read."""
MAX_DEPTH = 50
MAX_OPERATORS = 64
MAX_ANSWER_CHARS = 200
END = ""

Value = int | Fraction

INTEGER = r"(?:0|[1-9][0-9]{0,11})"
NUMBER = rf"-?{INTEGER}(?: ?/ ?[1-9][0-9]{{0,11}})?"
VALUE = rf"(?:{NUMBER}|\( ?{NUMBER} ?\))"
STEP = re.compile(rf"(\??) ?({VALUE}) ?([-+*/]) ?({VALUE}) ?= ?({VALUE})(?: ?, ?({VALUE}(?: {VALUE})*))?")
"""Read from the left, as an expression is: `8/3/2=4/3` divides 8/3; by 3/2 divides `8/(3/2)`."""
MARK = re.compile("[?,]")
"""What only steps have."""
REST = re.compile(VALUE)
TOKEN = re.compile(rf"\s*({INTEGER}|[-+*/()])")
RESULT = re.compile(rf" ?({VALUE}) ?")
UNWRAP = str.maketrans("", "", "() ")
SPELLINGS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "−": "-", "–": "-"})
LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\left": "", r"\right": ""}


class Unparsed(Exception):
    """The text is not in the grammar."""


class Broken(Exception):
    """The text is in the grammar, but states what does not hold."""


class Term(NamedTuple):
    """A value and how it was made: `Term(22, "-", ("26", "4"))`; a given number is `Term(7, "", ("7",))`."""

    value: Value
    operator: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return self.operator.join(self.operands)


class CountdownVerifier:
    """Judges by the rules alone: `data` is `{"numbers": [4, 26, 7], "target": 15}`."""

    reads_gold = False

    def judge(self, attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        """One judgement an attempt; a solved one's answer is its canonical expression."""
        return [judge(*read_rules(problem.data), text) for problem, text in attempts]


@lru_cache(maxsize=4096)
def read_rules(data: str) -> tuple[tuple[int, ...], int]:
    """Numbers and target of a Countdown problem's `data`."""
    rules = json.loads(data)
    if not {"numbers", "target"} <= rules.keys():
        raise ValueError(f'Countdown data is {data}; expected {{"numbers": [4, 26, 7], "target": 15}}: rebuild it')
    return tuple(rules["numbers"]), rules["target"]


def may_hold(problem: Problem, text: str) -> bool:
    """Whether an unfinished answer breaks no rule up to here, as far as it can be read."""
    try:
        steps = [STEP.fullmatch(piece) for piece in split_steps(spell_plainly(text.rpartition("!")[2]))]
        if all(steps):
            follow([step.groups("") for step in steps if step], read_rules(problem.data)[0])
    except Unparsed:
        return True
    except Broken:
        return False
    return True


def judge(numbers: tuple[int, ...], target: int, text: str) -> Judgement:
    """Whether the text makes the target of the numbers: `judge((4, 26, 7), 15, "(26-4)-7")`."""
    attempt = find_attempt(text)
    try:
        term = read_attempt(attempt, numbers)
    except Unparsed:
        return Judgement(solved=False, reason="unparsed", answer=attempt[:MAX_ANSWER_CHARS])
    except Broken:
        return Judgement(solved=False, reason="wrong", answer=attempt[:MAX_ANSWER_CHARS])
    solved = term.value == target
    return Judgement(solved=solved, reason="solved" if solved else "wrong", answer=str(term)[:MAX_ANSWER_CHARS])


def find_attempt(text: str) -> str:
    """The part to judge: inside the last <answer> or \\boxed where there is one, and there after the last `!`."""
    for find in (find_tagged, find_boxed):
        found = find(text)
        text = text if found is None else found
    return text.rpartition("!")[2].strip()


def read_attempt(attempt: str, numbers: tuple[int, ...]) -> Term:
    """The term that the attempt makes of all the numbers. Raises Unparsed or Broken."""
    attempt = spell_plainly(attempt)
    pieces = split_steps(attempt)
    if len(pieces) == 1 and not MARK.search(pieces[0]):
        return read_expression(pieces[0], numbers)
    steps = [STEP.fullmatch(piece) for piece in pieces]
    if steps and all(steps):
        return follow_chain([step.groups("") for step in steps if step], numbers)
    raise Unparsed


def spell_plainly(attempt: str) -> str:
    """The attempt in ASCII, bounded."""
    if len(attempt) > MAX_CHARS:
        raise Unparsed
    if "\\" in attempt:
        for latex, plain in LATEX.items():
            attempt = attempt.replace(latex, plain)
    if not attempt.isascii():
        attempt = attempt.translate(SPELLINGS)
        if not attempt.isascii():
            raise Unparsed
    return attempt


def split_steps(attempt: str) -> list[str]:
    """The steps that were not retracted, single-spaced: `26-4=21,7;~26-4=22,7;` gives `["26-4=22,7"]`."""
    pieces = attempt.split(";") if ";" in attempt else attempt.split("\n")
    pieces = [" ".join(piece.split()) for piece in pieces]
    if "~" in attempt:
        pieces = drop_retracted(pieces)
    return [piece for piece in pieces if piece]


def drop_retracted(pieces: list[str]) -> list[str]:
    """Each `~` takes back the step before it, and that step's checks."""
    kept: list[str] = []
    for piece in pieces:
        while piece.startswith("~"):
            retract(kept)
            piece = piece[1:].lstrip()
        if piece:
            kept.append(piece)
    return kept


def retract(kept: list[str]) -> None:
    """Remove the last step and the checks after it."""
    while kept and kept[-1].startswith("?"):
        kept.pop()
    if not kept:
        raise Broken
    kept.pop()


@lru_cache(maxsize=4096)
def given_terms(numbers: tuple[int, ...]) -> tuple[Term, ...]:
    """The given numbers as terms."""
    return tuple(Term(number, "", (str(number),)) for number in numbers)


def follow_chain(steps: Sequence[tuple[str, ...]], numbers: tuple[int, ...]) -> Term:
    """The one term that is left after all steps, which has used all numbers."""
    pool = follow(steps, numbers)
    if len(pool) != 1:
        raise Broken
    return pool[0]


def follow(steps: Sequence[tuple[str, ...]], numbers: tuple[int, ...]) -> list[Term]:
    """Take each step with the numbers at hand; gives what is left."""
    pool = list(given_terms(numbers))
    last: tuple[Value, ...] = ()
    for check, left, operator, right, result, rest in steps:
        a, b, c = read_value(left), read_value(right), read_value(result)
        if not holds(a, operator, b, c):
            raise Broken
        if not check:
            pool.append(combine(take(pool, a), operator, take(pool, b)))
            last = a, b, c
        elif sorted((a, b, c)) != sorted(last):
            raise Broken
        if rest and not is_rest(rest, pool):
            raise Broken
    return pool


def read_value(text: str) -> Value:
    """An integer or a fraction, in parentheses or not: `(-8 / 3)`."""
    return int(text) if text.isdigit() else simplify(Fraction(text.translate(UNWRAP)))


def simplify(fraction: Fraction) -> Value:
    """A whole number as an int."""
    return fraction.numerator if fraction.denominator == 1 else fraction


def holds(a: Value, operator: str, b: Value, c: Value) -> bool:
    """Whether `a operator b = c`, exactly."""
    if operator == "+":
        return a + b == c
    if operator == "-":
        return a - b == c
    if operator == "*":
        return a * b == c
    return b != 0 and b * c == a


def take(pool: list[Term], value: Value) -> Term:
    """Remove a term of this value from the pool."""
    for index, term in enumerate(pool):
        if term.value == value:
            return pool.pop(index)
    raise Broken


def is_rest(rest: str, pool: list[Term]) -> bool:
    """Whether `rest` is what is left, with or without the newest result, which stands last in the pool."""
    stated = sorted(map(read_value, REST.findall(rest)))
    left = [term.value for term in pool]
    return stated == sorted(left[:-1]) or stated == sorted(left)


def combine(left: Term, operator: str, right: Term) -> Term:
    """The term `left operator right`; sums and products are flattened and sorted, so that order does not tell."""
    value = compute(left.value, operator, right.value)
    if operator in "+*":
        return Term(value, operator, tuple(sorted(parts(left, operator) + parts(right, operator))))
    return Term(value, operator, (wrap(left), wrap(right)))


def parts(term: Term, operator: str) -> tuple[str, ...]:
    """The operands that a term brings into a sum or product."""
    return term.operands if term.operator == operator else (wrap(term),)


def wrap(term: Term) -> str:
    """The term as an operand."""
    return f"({term})" if term.operator else term.operands[0]


def compute(a: Value, operator: str, b: Value) -> Value:
    """`a operator b`, exactly. Raises Broken on division by zero."""
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    if b == 0:
        raise Broken
    return simplify(Fraction(a) / b)


def read_expression(text: str, numbers: tuple[int, ...]) -> Term:
    """The term of a plain expression over exactly these numbers, with or without `= result` after it."""
    text, equals, result = text.partition("=")
    stated = RESULT.fullmatch(result)
    if equals and not stated:
        raise Unparsed
    tokens = tokenize(text)
    term = Parser(tokens).parse()
    if sorted(int(token) for token in tokens if token.isdigit()) != sorted(numbers):
        raise Broken
    if stated and term.value != read_value(stated[1]):
        raise Broken
    return term


def tokenize(text: str) -> list[str]:
    """Integers, operators and parentheses; anything else is Unparsed."""
    text = text.strip()
    tokens, end = [], 0
    while end < len(text):
        match = TOKEN.match(text, end)
        if not match:
            raise Unparsed
        tokens.append(match[1])
        end = match.end()
    # Few operators and short integers bound every value to some 800 digits.
    if sum(token in "+-*/" for token in tokens) > MAX_OPERATORS:
        raise Unparsed
    return tokens


class Parser:
    """Recursive descent.

    sum = product {(+ | -) product}, product = atom {(* | /) atom}, atom = integer | "(" sum ")".
    """

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*tokens, END]
        self.position = 0
        self.depth = 0

    def parse(self) -> Term:
        """The whole text as one sum. Raises Unparsed, or Broken on a division by zero."""
        term = self.read_sum()
        self.expect(END)
        return term

    def read_sum(self) -> Term:
        term = self.read_product()
        while (operator := self.tokens[self.position]) in ("+", "-"):
            self.position += 1
            term = combine(term, operator, self.read_product())
        return term

    def read_product(self) -> Term:
        term = self.read_atom()
        while (operator := self.tokens[self.position]) in ("*", "/"):
            self.position += 1
            term = combine(term, operator, self.read_atom())
        return term

    def read_atom(self) -> Term:
        token = self.tokens[self.position]
        if token.isdigit():
            self.position += 1
            return Term(int(token), "", (token,))
        self.expect("(")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unparsed
        term = self.read_sum()
        self.expect(")")
        self.depth -= 1
        return term

    def expect(self, token: str) -> None:
        if self.tokens[self.position] != token:
            raise Unparsed
        self.position += 1
