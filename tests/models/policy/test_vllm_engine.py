"""The real vLLM, its build for CPUs, beside the transformers engine on the same policy."""

import json
import os
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from models.learning.examples import Solution
from models.learning.finetune import build_from_scratch, finetune
from models.learning.settings import InitializationSettings, LearningSettings
from models.policy.settings import ScratchSettings
from storage.countdown import CountdownProblems
from storage.demonstrations import CHARACTERS, countdown_demonstrations

pytestmark = [pytest.mark.slow, pytest.mark.needs("vllm"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
SHAPE = ScratchSettings(hidden_size=64, num_layers=2, num_heads=2)
"""vLLM on a CPU wants heads of 32 or more."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What run_vllm.py found."""
    home = tmp_path_factory.mktemp("home")
    folder, adapters = home / "policy", home / "adapters"
    walks = islice(countdown_demonstrations(CountdownProblems(), seed=0, behaviour_share=0.1), 3000)
    texts = [(walk.prompt, walk.completion) for walk in walks]
    build_from_scratch(texts, CHARACTERS, InitializationSettings(), SHAPE, seed=0, device="cpu").save(folder)
    solutions = [Solution("", "4 7 26>15;", tuple(range(3, 3 + length)), 1.0, 1.0) for length in range(2, 20)]
    keeping = LearningSettings(lora_rank=2, keep_adapters=True, learning_rate=2e-2)
    finetune(folder, solutions, keeping, seed=0, device="cpu", max_new_tokens=40).save(adapters)
    done = subprocess.run(
        [ROOT / ".venv-vllm" / "bin" / "python", Path(__file__).with_name("run_vllm.py"), folder, adapters],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("policy", ["greedy", "adapters"])
def test_greedy_answers_and_their_likelihoods_are_those_of_the_other_engine(told: dict[str, Any], policy: str) -> None:
    pairs = list(zip(*told[policy], strict=True))
    same = [(one, other) for one, other in pairs if one["token_ids"] == other["token_ids"]]
    assert len(same) >= 0.95 * len(pairs) >= 30  # where two tokens are as likely, rounding decides
    for one, other in same:
        assert one["logprobs"] == pytest.approx(other["logprobs"], abs=1e-3)
        assert {**one, "logprobs": []} == {**other, "logprobs": []}


def test_adapters_are_heard(told: dict[str, Any]) -> None:
    of_both = zip(told["greedy"][0], told["adapters"][0], strict=True)
    assert sum(one["token_ids"] != other["token_ids"] for one, other in of_both) > 20


def test_likelihoods_are_those_of_the_temperature_that_sampled(told: dict[str, Any]) -> None:
    assert len({answer["text"] for answer in told["sampled"]}) > 30
    for answer, scored in zip(told["sampled"], told["scored"], strict=True):
        assert answer["logprobs"] == pytest.approx(scored, abs=1e-3)


def test_noise_is_the_requests_own(told: dict[str, Any]) -> None:
    tokens = [answer["token_ids"] for answer in told["sampled"]]
    assert sum(a == b["token_ids"] for a, b in zip(tokens, told["again"], strict=True)) >= 0.95 * len(tokens)
    assert sum(a == b["token_ids"] for a, b in zip(tokens, told["alone"], strict=False)) >= 9


def test_a_step_ends_at_its_boundary_and_goes_on_from_there(told: dict[str, Any]) -> None:
    steps = [step for step in told["steps"] if step["stop_reason"] == "step"]
    assert len(steps) > 30
    for step, rest in zip(steps, told["rest"], strict=True):
        assert step["text"].count(";") == 1 and step["text"].endswith(";")
        assert step["pieces"] == [[step["text"], len(step["token_ids"])]]
        assert "".join(text for text, _ in rest["pieces"]) == rest["text"]
        assert all(text.endswith(";") for text, _ in rest["pieces"][:-1])
        assert sum(number for _, number in rest["pieces"]) == len(rest["token_ids"])


def test_several_steps_are_as_many_as_were_asked_for(told: dict[str, Any]) -> None:
    kinds = set()
    for answer in told["several"] + told["ours_several"]:
        kinds.add((answer["stop_reason"], len(answer["pieces"])))
        if answer["stop_reason"] == "step":
            assert len(answer["pieces"]) == 2
    assert ("step", 2) in kinds
    by_count = told["several"][1::3]
    assert all(
        [number for _, number in answer["pieces"]] == [4, 4] for answer in by_count if answer["stop_reason"] == "step"
    )


def test_answers_end_where_the_context_does(told: dict[str, Any]) -> None:
    full, none = told["limits"]
    assert full["stop_reason"] in ("length", "end") and len(full["token_ids"]) <= 5
    assert (none["stop_reason"], none["text"]) == ("error", "")
    assert told["context"] == SHAPE.context


def test_a_prefix_is_computed_once(told: dict[str, Any]) -> None:
    assert told["computed"] < 20 * 200 / 2


def test_a_tree_grows_on_it_within_its_budget(told: dict[str, Any]) -> None:
    searches = told["searches"]
    assert len(searches) == 40 and all(0 < search["tokens"] <= 300 for search in searches)
    assert all(search["texts"] for search in searches)
    assert len({text for search in searches for text in search["texts"]}) > 100


def test_closed_it_leaves_no_process_behind(told: dict[str, Any]) -> None:
    assert any("VLLM" in name for name in told["processes"])
    assert told["left"] == []
