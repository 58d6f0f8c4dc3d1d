"""Judges mathematical answers against the gold answer with math-verify (https://github.com/huggingface/Math-Verify).

Plain numbers and plain words are compared here, exactly; all else goes to worker
processes, because math-verify hands text to sympy, and bounds its time with signals.
Its leniency is part of the result: `50%` is both 50 and 0.5, `x=5` is 5.
"""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from models.reward.isolated import MAX_ANSWER_CHARS, MAX_CHARS, Isolated
from models.reward.protocol import Judgement
from models.reward.text import find_boxed, find_tagged
from storage.records import Problem

GOLD_MARK = "####"
ANSWER_CUE = re.compile(r"answer is\b:?", re.IGNORECASE)
NUMBER = re.compile(r"(-?)([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,30})(?:\.([0-9]{1,30}))?")
DECORATION = "$€£*\\ \n"
EMPHASIS = "* \t\r"
TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}]*)\}")
WORDS = re.compile(r"[a-z' ,-]+")
PROSE = re.compile(r"(?<![\\{A-Za-z])(?!sqrt\b)[A-Za-z]{4}")
"""A word. Read as a formula, it would be a product of letters, and any anagram its equal."""
FORMULA = re.compile(r"[-+(\\\[0-9.][^$]*[\\^!*]|[^$]*\bsqrt\b")
"""How a formula begins that a number alone does not say; a unit may stand behind it: `3\\sqrt{2}\\text{ inches}`."""
UNIT = re.compile(r"(?:\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}|\s+(?!sqrt)[A-Za-z]{3,})+[\s.]*$")
"""Words at the end, as a unit is."""


class MathVerifier:
    """Reads the gold `answer` and finds the policy's in its text."""

    reads_gold = True

    def __init__(self) -> None:
        self.isolated = Isolated(verify, load)

    def judge(self, attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        """One judgement an attempt, in order."""
        pairs = [(problem.answer, find_answer(text)) for problem, text in attempts]
        return self.isolated.judge([judge_plainly(*pair) or pair for pair in pairs])


def find_answer(text: str) -> str:
    """The last \\boxed{}, else the last <answer>, else what follows the last `####` or "answer is", else all."""
    for found in (find_boxed(text), find_tagged(text), find_marked(text)):
        if found is not None:
            return found
    return text.strip()


def find_marked(text: str) -> str | None:
    """The rest of the line after the last `####`, else after the last "answer is"."""
    _, mark, after = text.rpartition(GOLD_MARK)
    if not mark:
        cues = list(ANSWER_CUE.finditer(text))
        if not cues:
            return None
        after = text[cues[-1].end() :]
    return after.strip().partition("\n")[0].strip(EMPHASIS).removesuffix(".").strip(EMPHASIS)


def judge_plainly(gold: str, answer: str) -> Judgement | None:
    """The judgement where it is certain without parsing formulas; None elsewhere."""
    read = answer[:MAX_ANSWER_CHARS]
    if not gold.strip():
        return Judgement(solved=False, reason="error", answer="the problem has no gold answer")
    if not answer or len(answer) > MAX_CHARS:
        return Judgement(solved=False, reason="unparsed", answer=read)
    solved = is_same(gold, answer)
    return None if solved is None else Judgement(solved=solved, reason="solved" if solved else "wrong", answer=read)


def is_same(gold: str, answer: str) -> bool | None:
    """Whether two numbers or two answers in words are the same; None where that takes more than reading them."""
    words = read_words(gold)
    if WORDS.fullmatch(words) and PROSE.search(words):
        return words == read_words(answer)
    expected, found = read_number(gold), read_number(answer)
    if expected is None or found is None:
        return None
    are_integers = "." not in expected + found  # others may be equal when rounded
    return True if expected == found else False if are_integers else None


def vote_of(answer: str) -> str:
    """An answer in one spelling, so that equal ones count together: `$18` and `18.00` both vote for `18`."""
    return read_number(answer) or read_words(answer)


def read_words(text: str) -> str:
    """A text in one spelling: `\\text{Evelyn}.` and `evelyn` both give `evelyn`."""
    return " ".join(TEXT_COMMAND.sub(r"\1", text).split()).casefold().strip(". ")


def read_number(text: str) -> str | None:
    """A plain number in one spelling, else None: `$1,250.50.` and `1250.5` both give `1250.5`."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    match = NUMBER.fullmatch(text.strip(DECORATION).removesuffix("."))
    if not match:
        return None
    sign, whole, fraction = match.groups("")
    fraction = fraction.rstrip("0")
    digits = (whole.replace(",", "").lstrip("0") or "0") + ("." + fraction if fraction else "")
    return digits if digits == "0" else sign + digits


# What follows runs in the workers.


def load() -> None:
    """Import math-verify; its warnings about time limits do not concern us, for the parent keeps the time."""
    import math_verify

    logging.getLogger(math_verify.__name__).setLevel(logging.ERROR)


def verify(gold: str, answer: str) -> Judgement:
    """Judge one answer."""
    import math_verify

    expected = parse_gold(gold)
    if not expected:
        return Judgement(solved=False, reason="error", answer=f"gold answer not parsed: {gold}"[:MAX_ANSWER_CHARS])
    found = parse_best(answer, "first_match")
    if not found:
        return Judgement(solved=False, reason="unparsed", answer=answer[:MAX_ANSWER_CHARS])
    solved = bool(math_verify.verify(expected, found, timeout_seconds=None))
    return Judgement(solved=solved, reason="solved" if solved else "wrong", answer=answer[:MAX_ANSWER_CHARS])


@lru_cache(maxsize=256)
def parse_gold(gold: str) -> list[Any]:
    """The gold answer as formulas; empty where it is none: its text alone, as a fallback, would not do."""
    return parse_best(gold, "no_fallback")


def parse_best(text: str, fallback: str) -> list[Any]:
    """A text as one formula or, where it is prose, as the last formula in it. A list, as verify wants it."""
    formula = UNIT.sub("", text) if FORMULA.match(text) else text
    readings = (f"\\boxed{{{formula}}}", text)
    first, second = reversed(readings) if PROSE.search(formula) else readings
    return parse(first, fallback) or parse(second, fallback)


def parse(text: str, fallback: str) -> list[Any]:
    """math-verify's reading of a text."""
    import math_verify

    return list(math_verify.parse(text, fallback_mode=fallback, parsing_timeout=None))
