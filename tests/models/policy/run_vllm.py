"""Runs the real vLLM, in its own environment, and prints what it did as JSON: test_vllm_engine.py looks at that."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from models.learning.batches import Example
from models.learning.scoring import with_old
from models.policy.load import load_policy, open_engine
from models.policy.protocol import Completion, Request
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


def plain(answers: Sequence[Completion]) -> list[dict[str, Any]]:
    return [asdict(answer) for answer in answers]


def answers_of_both(folder: Path, requests: Sequence[Request]) -> list[list[dict[str, Any]]]:
    """Of vLLM and of the other engine."""
    engine, ours = open_engine(folder, VLLM), open_engine(folder, PolicySettings())
    answers = [plain(drain(each, requests)) for each in (engine, ours)]
    engine.close()
    return answers


def main() -> None:
    """Everything with one engine: it takes half a minute to start."""
    folder = Path(sys.argv[1])
    problems = open_source(CountdownProblems(), Splits(benchmark=40, final=1, development=1)).reserved()["benchmark"]
    prompts = [problem.prompt for problem in problems]
    policy = load_policy(folder)
    ours = open_engine(folder, PolicySettings())
    engine: Any = open_engine(folder, VLLM)
    told: dict[str, Any] = {"context": engine.context}

    greedy = [Request(prompt=prompt, temperature=0, max_new_tokens=40) for prompt in prompts]
    told["greedy"] = [plain(drain(each, greedy)) for each in (engine, ours)]

    sampling = [
        Request(prompt=prompt, temperature=TEMPERATURE, seed=seed, max_new_tokens=40, boundary=";")
        for seed, prompt in enumerate(prompts)
    ]
    sampled = drain(engine, sampling)
    scored = with_old(
        policy.model,
        [
            Example(
                name="",
                prompt_ids=engine.codec.encode(request.prompt),
                completion_ids=tuple(answer.token_ids),
                temperature=TEMPERATURE,
            )
            for request, answer in zip(sampling, sampled, strict=True)
        ],
        4096,
    )
    told["sampled"], told["scored"] = plain(sampled), [example.old for example in scored]
    told["again"] = plain(drain(engine, sampling))
    told["alone"] = plain([drain(engine, [request])[0] for request in sampling[:10]])

    first = [
        Request(prompt=prompt, temperature=TEMPERATURE, seed=seed, max_new_tokens=40, boundary=";", max_steps=1)
        for seed, prompt in enumerate(prompts)
    ]
    steps = drain(engine, first)
    told["steps"] = plain(steps)
    told["rest"] = plain(
        drain(
            engine,
            [
                Request(prompt=request.prompt, prefix=tuple(step.token_ids), seed=1, max_new_tokens=40, boundary=";")
                for request, step in zip(first, steps, strict=True)
                if step.stop_reason == "step"
            ],
        )
    )
    several = [
        Request(prompt=prompts[0], seed=seed, max_new_tokens=40, boundary=boundary, max_steps=2)
        for seed in range(10)
        for boundary in (";", 4, "=1")
    ]
    told["several"] = plain(drain(engine, several))
    told["ours_several"] = plain(drain(ours, several))

    long = "1" * (engine.context - 5)
    told["limits"] = plain(drain(engine, [Request(prompt=long, max_new_tokens=40), Request(prompt=long * 2)]))

    drain(engine, [Request(prompt=long[:200], max_new_tokens=1)])
    before = engine.num_computed_tokens
    again = [Request(prompt=long[:200], prefix=(7,) * seed, seed=seed, max_new_tokens=1) for seed in range(20)]
    drain(engine, again)
    told["computed"] = engine.num_computed_tokens - before

    strategy = MCTS(budget=Budget(tokens=300), boundary=";")
    searches = (
        (problem, strategy.search(Task(prompt=problem.prompt, seed=place, max_new_tokens=40)))
        for place, problem in enumerate(problems)
    )
    told["searches"] = [
        {
            "tokens": found.num_tokens,
            "texts": [attempt.text for attempt in found.attempts],
        }
        for finished in drive(searches, engine, Rules())
        for _, found in finished
    ]

    engine.add(0, greedy[0])  # closed at work
    names = [process.name() for process in psutil.Process().children(recursive=True)]
    engine.close()
    _, alive = psutil.wait_procs(
        [process for process in psutil.Process().children(recursive=True) if "VLLM" in process.name()], timeout=20
    )
    told["processes"], told["left"] = names, [process.name() for process in alive]

    told["adapters"] = answers_of_both(Path(sys.argv[2]), greedy)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
