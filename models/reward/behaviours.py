"""Recognises the roadmap's six reasoning behaviours in a text (https://arxiv.org/abs/2412.14135, section 3).

Readable rules, not a judge: marks of the Countdown grammar in texts without
letters, cue phrases in the others. It says what a text does, not whether it is right.
"""

import re

MARKS: dict[str, re.Pattern[str]] = {
    "task_decomposition": re.compile(r"=[^=]*="),
    "task_completion": re.compile(r"=\s?[0-9]+;?\s*\Z"),
    "alternative_proposal": re.compile(r"![\s]?[0-9]"),
    "self_evaluation": re.compile(r"\?[\s]?[0-9]"),
    "self_correction": re.compile(r"~"),
}
"""A mark of the grammar each: two steps, a last step that leaves nothing, `!`, `?`, `~`."""

PHRASES: dict[str, str] = {
    "problem_analysis": (
        r"we (?:need|have|want|are given|know)|given that|the (?:problem|question) (?:asks|says|states|wants)"
        r"|let me understand|let's understand|to solve this|we are asked|is asking"
    ),
    "task_decomposition": (
        r"step [0-9]|first,|firstly|second,|secondly|next,|in (?:two|three) steps"
        r"|break (?:it|this|the problem) (?:down|into)"
    ),
    "task_completion": (r"therefore|the (?:final )?answer is|so the answer|in conclusion|\\boxed|<answer>|####|hence"),
    "alternative_proposal": (
        r"alternatively|another (?:way|approach|method|option)|a different (?:way|approach|method)"
        r"|what if|instead,|let's try|let me try|or we could"
    ),
    "self_evaluation": (
        r"let me (?:check|verify|double-check|confirm)|let's (?:check|verify|confirm)|double-check|to verify|checking"
        r"|does this (?:work|hold)|is this (?:right|correct)|sanity check"
    ),
    "self_correction": (
        r"wait\b|actually,|i made (?:a|an) (?:mistake|error)|that's (?:wrong|not right|incorrect)"
        r"|that is (?:wrong|not right|incorrect)|correction:|let me (?:fix|correct|redo)|scratch that|oops"
    ),
}
"""Cue phrases each, in any case."""

CUES = {behaviour: re.compile(rf"(?<!\w)(?:{phrases})", re.IGNORECASE) for behaviour, phrases in PHRASES.items()}
LETTER = re.compile(r"[A-Za-z]")


def recognise(text: str) -> list[str]:
    """The behaviours in a text, sorted: `["self_correction", "task_decomposition"]`."""
    text = text.replace("’", "'")
    rules = CUES if LETTER.search(text) else MARKS
    return sorted(behaviour for behaviour, rule in rules.items() if rule.search(text))
