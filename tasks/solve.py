"""Solves one typed problem by search, and says how the answer was chosen. Keeps nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from models.policy.protocol import Engine
from models.search.driver import drive
from models.search.protocol import Found, Task
from models.search.tree import Node
from storage.records import Problem, make_seed
from tasks.choose import Thinking, choose


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """`Solution(answer="(26-4)-7", text="26-4=22,7;22-7=15;", is_verified=True, why="…", …)`."""

    answer: str
    text: str
    steps: list[str]
    """The text, step by step."""
    is_verified: bool
    """Whether the rules that the problem itself states accept it."""
    why: str
    strategy: str
    """With its budget, guide and choice."""
    num_samples: int
    """Answers that came to their end."""
    num_tokens: int
    """All that was generated."""


def solve(
    problem: Problem,
    engine: Engine,
    thinking: Thinking,
    *,
    max_new_tokens: int,
    on_step: Callable[[Node], None] = lambda root: None,
) -> Solution:
    """The chosen attempt. `on_step` is told the tree as it stands, after each step of the engine.

    Raises ValueError for a guide that may not guide this.
    """
    root = Node()
    task = Task(
        prompt=problem.prompt, seed=make_seed("solve", problem.problem_id), max_new_tokens=max_new_tokens, root=root
    )
    ended: list[tuple[Problem, Found]] = []
    for finished in drive([(problem, thinking.strategy.search(task))], engine, thinking.open_guide()):
        on_step(root)
        ended += finished
    ((_, found),) = ended
    chosen = choose(problem, found.attempts, thinking)
    attempt = found.attempts[chosen.place]
    steps = [step.text for step in found.leaves[chosen.place].path()] if found.leaves else [attempt.text]
    return Solution(
        answer=chosen.answer,
        text=attempt.text,
        steps=[step for step in steps if step],
        is_verified=chosen.is_verified,
        why=chosen.why,
        strategy=thinking.label,
        num_samples=len(found.attempts),
        num_tokens=found.num_tokens,
    )
