"""Judges mathematical answers against the gold answer with math-verify (https://github.com/huggingface/Math-Verify).

Plain numbers are compared here, exactly; all else goes to worker processes,
because math-verify hands text to sympy, and bounds its time with signals.
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
UNITS = str.maketrans("", "", "$\\ ")


class MathVerifier:
    """Reads the gold `answer` and finds the policy's in its text."""

    reads_gold = True

    def __init__(self) -> None:
        self.isolated = Isolated(verify, load)

    def judge(self, attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        """One judgement an attempt, in order."""
        pairs = [(problem.answer, find_answer(text)) for problem, text in attempts]
        certain = [judge_plainly(gold, answer) for gold, answer in pairs]
        judged = iter(self.isolated.judge([pair for pair, known in zip(pairs, certain, strict=True) if known is None]))
        return [next(judged) if known is None else known for known in certain]


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
    return after.strip().partition("\n")[0].strip()


def judge_plainly(gold: str, answer: str) -> Judgement | None:
    """The judgement where it is certain without parsing formulas; None elsewhere."""
    read = answer[:MAX_ANSWER_CHARS]
    if not gold.strip():
        return Judgement(solved=False, reason="error", answer="the problem has no gold answer")
    if not answer or len(answer) > MAX_CHARS:
        return Judgement(solved=False, reason="unparsed", answer=read)
    expected, found = read_number(gold), read_number(answer)
    if expected is None or found is None:
        return None
    if expected == found:
        return Judgement(solved=True, reason="solved", answer=read)
    are_integers = "." not in expected + found
    return Judgement(solved=False, reason="wrong", answer=read) if are_integers else None


def read_number(text: str) -> str | None:
    """A plain number in one spelling, else None: `$1,250.50.` and `1250.5` both give `1250.5`."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    match = NUMBER.fullmatch(text.translate(UNITS).removesuffix("."))
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
    found = parse_answer(answer)
    if not found:
        return Judgement(solved=False, reason="unparsed", answer=answer[:MAX_ANSWER_CHARS])
    solved = bool(math_verify.verify(expected, found, timeout_seconds=None))
    return Judgement(solved=solved, reason="solved" if solved else "wrong", answer=answer[:MAX_ANSWER_CHARS])


@lru_cache(maxsize=256)
def parse_gold(gold: str) -> tuple[Any, ...]:
    """The gold answer as formulas, most certain first; empty where it is none."""
    return tuple(parse(f"\\boxed{{{gold}}}", "no_fallback") or parse(gold, "no_fallback"))


def parse_answer(answer: str) -> list[Any]:
    """The answer as formulas: as one formula where it can be read so, else as text that has one in it."""
    return parse(f"\\boxed{{{answer}}}", "first_match") or parse(answer, "first_match")


def parse(text: str, fallback: str) -> list[Any]:
    """math-verify's reading of a text."""
    import math_verify

    return list(math_verify.parse(text, fallback_mode=fallback, parsing_timeout=None))
