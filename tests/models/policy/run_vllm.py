"""Runs the real vLLM, in its own environment, and prints what it did as JSON: test_vllm_engine.py looks at that."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from models.learning.batches import Example
from models.learning.scoring import with_old
from models.policy.load import Policy, load_policy, open_engine
from models.policy.protocol import Completion, Engine, Request
from models.policy.settings import PolicySettings
from models.reward.guidance import Rules
from models.search.budget import Budget
from models.search.driver import drive
from models.search.mcts import MCTS
from models.search.protocol import Task
from storage.countdown import CountdownProblems
from storage.problems import open_source
from storage.sources.source import Splits
from tests.models.policy.test_transformers_engine import drain

TEMPERATURE = 0.7
VLLM = PolicySettings(engine="vllm", dtype="float32", max_rows=64)
PROBLEMS = open_source(CountdownProblems(), Splits(benchmark=40, final=1, development=1)).reserved()["benchmark"]
PROMPTS = [problem.prompt for problem in PROBLEMS]
GREEDY = [Request(prompt=prompt, temperature=0, max_new_tokens=40) for prompt in PROMPTS]


def plain(answers: Sequence[Completion]) -> list[dict[str, Any]]:
    return [asdict(answer) for answer in answers]


def greedy(engine: Engine, ours: Engine) -> dict[str, Any]:
    """The most likely answers of both."""
    return {"greedy": [plain(drain(each, GREEDY)) for each in (engine, ours)]}


def sampled(engine: Any, policy: Policy) -> dict[str, Any]:
    """Samples, what a training says of their likelihood, and the same again, in other company."""
    requests = [replace(request, temperature=TEMPERATURE, seed=seed) for seed, request in enumerate(GREEDY)]
    answers = drain(engine, requests)
    examples = [
        Example(
            name="",
            prompt_ids=engine.codec.encode(request.prompt),
            completion_ids=tuple(answer.token_ids),
            temperature=TEMPERATURE,
        )
        for request, answer in zip(requests, answers, strict=True)
    ]
    return {
        "sampled": plain(answers),
        "scored": [example.old for example in with_old(policy.model, examples, 4096)],
        "again": plain(drain(engine, requests)),
        "alone": plain([drain(engine, [request])[0] for request in requests[:10]]),
    }


def stepped(engine: Engine, ours: Engine) -> dict[str, Any]:
    """First steps, what follows them, and other boundaries."""
    first = [
        Request(prompt=prompt, temperature=TEMPERATURE, seed=seed, max_new_tokens=40, boundary=";", max_steps=1)
        for seed, prompt in enumerate(PROMPTS)
    ]
    steps = drain(engine, first)
    rest = [
        Request(prompt=request.prompt, prefix=tuple(step.token_ids), seed=1, max_new_tokens=40, boundary=";")
        for request, step in zip(first, steps, strict=True)
        if step.stop_reason == "step"
    ]
    several = [
        Request(prompt=PROMPTS[0], seed=seed, max_new_tokens=40, boundary=boundary, max_steps=2)
        for seed in range(10)
        for boundary in (";", 4, "=1")
    ]
    return {
        "steps": plain(steps),
        "rest": plain(drain(engine, rest)),
        "several": plain(drain(engine, several)),
        "ours_several": plain(drain(ours, several)),
    }


def bounded(engine: Any) -> dict[str, Any]:
    """Prompts near the context's length and beyond it, and what is computed of one prefix that many share."""
    long = "1" * (engine.context - 5)
    limits = plain(drain(engine, [Request(prompt=long, max_new_tokens=40), Request(prompt=long * 2)]))
    drain(engine, [Request(prompt=long[:200], max_new_tokens=1)])
    before = engine.num_computed_tokens
    drain(engine, [Request(prompt=long[:200], prefix=(7,) * seed, seed=seed, max_new_tokens=1) for seed in range(20)])
    return {"context": engine.context, "limits": limits, "computed": engine.num_computed_tokens - before}


def searched(engine: Engine) -> dict[str, Any]:
    """Trees."""
    strategy = MCTS(budget=Budget(tokens=300), boundary=";")
    searches = (
        (problem, strategy.search(Task(prompt=problem.prompt, seed=place, max_new_tokens=40)))
        for place, problem in enumerate(PROBLEMS)
    )
    found = [found for finished in drive(searches, engine, Rules()) for _, found in finished]
    return {
        "searches": [
            {"tokens": each.num_tokens, "texts": [attempt.text for attempt in each.attempts]} for each in found
        ]
    }


def closed(engine: Any) -> dict[str, Any]:
    """The processes of an engine that is at work, and those that are left when it is closed."""
    engine.add(0, GREEDY[0])
    names = [process.name() for process in psutil.Process().children(recursive=True)]
    engine.close()
    left = [process for process in psutil.Process().children(recursive=True) if "VLLM" in process.name()]
    _, alive = psutil.wait_procs(left, timeout=20)
    return {"processes": names, "left": [process.name() for process in alive]}


def adapted(folder: Path) -> dict[str, Any]:
    """The most likely answers of both, of adapters on their weights."""
    engine, ours = open_engine(folder, VLLM), open_engine(folder, PolicySettings())
    answers = [plain(drain(each, GREEDY)) for each in (engine, ours)]
    engine.close()
    return {"adapters": answers}


def main() -> None:
    """Everything with one engine: it takes half a minute to start."""
    folder, adapters = map(Path, sys.argv[1:])
    ours, engine = open_engine(folder, PolicySettings()), open_engine(folder, VLLM)
    told = (
        greedy(engine, ours)
        | sampled(engine, load_policy(folder))
        | stepped(engine, ours)
        | bounded(engine)
        | searched(engine)
        | closed(engine)
        | adapted(adapters)
    )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
