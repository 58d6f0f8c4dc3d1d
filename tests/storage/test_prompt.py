"""Prompt templates show the fields they name and nothing else."""

import re

import pytest

from storage.prompt import check_template, template_fields


def test_a_template_of_plain_fields_passes() -> None:
    check_template("{numbers}>{target};", ("numbers", "target"))
    check_template("Q: {question} (braces: {{}})")


def test_fields_are_listed_in_order() -> None:
    assert template_fields("{b} {{c}} {a}") == ["b", "a"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("Solve it.", "shows no field"),
        ("{question} {answer}", "shows the gold answer; take {answer} out"),
        ("{question} {solution}", "shows the gold answer; take {solution} out"),
        ("{question.__class__}", "only plain names"),
        ("{question[0]}", "only plain names"),
        ("{question!r}", "only plain names"),
        ("{question:>{width}}", "only plain names"),
        ("{}", "only plain names"),
        ("{0}", "only plain names"),
        ("{question", "is no template"),
        ("{topic}", "names {topic}; the fields are question, solution"),
    ],
)
def test_anything_else_is_refused_with_the_reason(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check_template(template, ("question", "solution"), gold="solution")
