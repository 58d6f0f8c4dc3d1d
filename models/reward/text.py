"""Finds the part of a text that is meant as its answer. Linear in its length."""

import re

OPEN_BOX = r"\boxed{"
OPEN_TAG, CLOSE_TAG = "<answer>", "</answer>"
CLOSE_THINKING = "</think>"
BRACE = re.compile("[{}]")


def said(text: str) -> str:
    """What a policy says after it has thought; all, where it shows no thinking."""
    return text.rpartition(CLOSE_THINKING)[2]


def find_tagged(text: str) -> str | None:
    """What stands in the last closed <answer> tags; None where there are none."""
    end = text.rfind(CLOSE_TAG)
    start = text.rfind(OPEN_TAG, 0, end) if end >= 0 else -1
    return text[start + len(OPEN_TAG) : end].strip() if start >= 0 else None


def find_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}, braces inside it balanced; None where there is none."""
    start = text.rfind(OPEN_BOX)
    if start < 0:
        return None
    start += len(OPEN_BOX)
    depth = 1
    for brace in BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[start : brace.start()].strip()
    return None
