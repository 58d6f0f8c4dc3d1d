import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from models.memory import NoMemoryError
from models.policy.load import Policy
from models.policy.protocol import Completion, Engine, Request
from models.policy.transformers_engine import TransformersEngine

PROMPTS = ["4 26 7>15;", "1>2;", "30 30 30 30>100;", "9;"]
SHAPE = {"vocab_size": 22, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA_LIKE = SHAPE | {"intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 8}
TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}


def complete(policy: Policy, requests: Sequence[Request], max_rows: int = 256) -> list[Completion]:
    engine = TransformersEngine(policy.model, policy.tokenizer, max_rows=max_rows)
    return drain(engine, requests)


def drain(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    for key, request in enumerate(requests):
        engine.add(key, request)
    answers: dict[int, Completion] = {}
    while finished := engine.step():
        assert not answers.keys() & dict(finished).keys()
        answers |= dict(finished)
    return [answers[key] for key in range(len(requests))]


def generate(model: PreTrainedModel, ids: Sequence[int], max_new_tokens: int) -> list[int]:
    """Greedy decoding by transformers itself, one prompt at a time."""
    prompt = torch.tensor([list(ids)])
    output = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=0
    )
    return output[0, len(ids) :].tolist()


def samples(num_samples: int, **changes: float) -> list[Request]:
    return [
        Request(prompt=prompt, seed=1000 * index + sample, max_new_tokens=5 + 3 * sample, **changes)  # type: ignore[arg-type]
        for index, prompt in enumerate(PROMPTS)
        for sample in range(num_samples)
    ]


ARCHITECTURES: dict[str, PreTrainedConfig] = {
    "llama, one key for two queries": LlamaConfig(**LLAMA_LIKE, **TOKENS),
    "gpt2, learnt positions": GPT2Config(vocab_size=22, n_embd=32, n_layer=2, n_head=4, n_positions=64, **TOKENS),
    "qwen3": Qwen3Config(**LLAMA_LIKE, **TOKENS),
    "qwen3, a sliding layer": Qwen3Config(
        **LLAMA_LIKE, **TOKENS, use_sliding_window=True, sliding_window=6, max_window_layers=1
    ),
    "mistral, sliding throughout": MistralConfig(**LLAMA_LIKE, **TOKENS, sliding_window=6),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_is_what_transformers_generates(policy: Policy, name: str) -> None:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[name]).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1.0 if weights.dim() == 1 else 6.0)
    requests = [Request(prompt=prompt, temperature=0.0, max_new_tokens=16) for prompt in PROMPTS]
    expected = [generate(model, policy.tokenizer(prompt)["input_ids"], 16) for prompt in PROMPTS]
    assert [answer.token_ids for answer in complete(Policy(model, policy.tokenizer), requests)] == expected


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (MambaConfig(vocab_size=22, hidden_size=16, num_hidden_layers=1, state_size=4), "linear_attention"),
        (Lfm2Config(**LLAMA_LIKE, layer_types=["conv", "full_attention"]), "conv"),
    ],
)
def test_a_model_with_another_kind_of_past_is_refused(policy: Policy, config: PreTrainedConfig, layers: str) -> None:
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ValueError, match=f"layers of {layers}; the transformers engine runs"):
        TransformersEngine(model, policy.tokenizer)


def test_greedy_of_the_default_policy_is_what_transformers_generates(policy: Policy) -> None:
    requests = [Request(prompt=prompt, temperature=0.0, max_new_tokens=20) for prompt in PROMPTS]
    expected = [generate(policy.model, policy.tokenizer(prompt)["input_ids"], 20) for prompt in PROMPTS]
    assert [answer.token_ids for answer in complete(policy, requests)] == expected


@pytest.mark.parametrize("max_rows", [1, 3, 7, 256])
def test_a_sample_is_the_same_in_any_batch(policy: Policy, max_rows: int) -> None:
    requests = samples(6)
    alone = [complete(policy, [request])[0] for request in requests]
    order = random.Random(max_rows).sample(range(len(requests)), len(requests))
    answers = complete(policy, [requests[i] for i in order], max_rows)
    assert [answer.token_ids for answer in answers] == [alone[i].token_ids for i in order]
    for answer, i in zip(answers, order, strict=True):
        assert answer.logprobs == pytest.approx(alone[i].logprobs, abs=1e-4)


class Cramped(torch.nn.Module):
    """Fits the memory for so many texts side by side."""

    def __init__(self, model: PreTrainedModel, room: int) -> None:
        super().__init__()
        self.model, self.room = model, room
        self.config, self.device, self.generation_config = model.config, model.device, model.generation_config

    def forward(self, input_ids: torch.Tensor, **options: object) -> object:
        output = self.model(input_ids=input_ids, **options)
        if len(input_ids) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return output


def test_short_of_memory_it_runs_fewer_side_by_side_and_answers_the_same(policy: Policy) -> None:
    requests, said = samples(6), list[str]()
    expected = complete(policy, requests, max_rows=8)
    cramped: Any = Cramped(policy.model, room=4)
    for max_rows in (8, 512):
        engine = TransformersEngine(cramped, policy.tokenizer, max_rows=max_rows, say=said.append)
        answers = drain(engine, requests[:8])
        assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in expected[:8]]
    assert said == ["out of memory: on with 4 texts side by side, which changes no answer"] * 2


def test_where_half_does_not_fit_either_the_settings_that_help_are_named(policy: Policy) -> None:
    cramped: Any = Cramped(policy.model, room=1)
    engine = TransformersEngine(cramped, policy.tokenizer, max_rows=8, say=lambda _: None)
    with pytest.raises(NoMemoryError, match=r"does not hold 4 texts side by side: lower policy\.max_rows, or"):
        drain(engine, samples(6))


def test_a_sample_is_the_same_beside_greedy_and_hot_rows(policy: Policy) -> None:
    request = Request(prompt=PROMPTS[0], seed=5, temperature=0.7)
    companions = [Request(prompt=PROMPTS[0], seed=5, temperature=temperature) for temperature in (0.0, 1.0, 2.0)]
    assert complete(policy, [*companions, request])[-1].token_ids == complete(policy, [request])[0].token_ids


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 1.7])
def test_logprobs_are_those_of_a_full_forward_pass(policy: Policy, temperature: float) -> None:
    requests = samples(3, temperature=temperature)
    for request, answer in zip(requests, complete(policy, requests), strict=True):
        prompt = policy.tokenizer(request.prompt)["input_ids"]
        with torch.no_grad():
            logits = policy.model(torch.tensor([prompt + answer.token_ids])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / (temperature or 1.0)).log_softmax(-1)[range(len(answer.token_ids)), answer.token_ids]
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("length", [1, 4, 9])
def test_a_continuation_is_the_rest_of_the_uninterrupted_text(policy: Policy, length: int) -> None:
    whole = Request(prompt=PROMPTS[0], seed=5, max_new_tokens=20)
    expected = complete(policy, [whole])[0]
    assert len(expected.token_ids) > length
    rest = Request(prompt=PROMPTS[0], prefix=tuple(expected.token_ids[:length]), seed=5, max_new_tokens=20 - length)
    answer = complete(policy, [rest, *samples(2)])[0]
    assert answer.token_ids == expected.token_ids[length:]
    assert answer.prompt_tokens == expected.prompt_tokens == 10
    assert answer.stop_reason == expected.stop_reason


def test_rows_of_unequal_lengths_each_get_their_own_limit(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    engine.end_ids = ()
    requests = [Request(prompt=PROMPTS[i % 4], seed=i, max_new_tokens=1 + i) for i in range(20)]
    answers = drain(engine, requests)
    assert [len(answer.token_ids) for answer in answers] == list(range(1, 21))
    assert {answer.stop_reason for answer in answers} == {"length"}


def test_a_prompt_is_computed_once_for_all_its_samples(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    answers = drain(engine, [Request(prompt=PROMPTS[0], seed=seed, max_new_tokens=1) for seed in range(8)])
    assert engine.num_computed_tokens == 10
    assert len({answer.token_ids[0] for answer in answers}) > 1


def test_an_end_mark_at_once_is_an_empty_answer(policy: Policy) -> None:
    request = Request(prompt=PROMPTS[0], temperature=0.0, max_new_tokens=9)
    favourite = complete(policy, [request])[0]
    engine = TransformersEngine(policy.model, policy.tokenizer)
    engine.end_ids = (favourite.token_ids[0],)
    assert drain(engine, [request]) == [
        Completion(
            text="",
            token_ids=favourite.token_ids[:1],
            logprobs=favourite.logprobs[:1],
            prompt_tokens=10,
            stop_reason="end",
        )
    ]


def test_every_end_mark_of_the_generation_configuration_ends(policy: Policy) -> None:
    policy.model.generation_config.eos_token_id = [7, 8]
    try:
        assert TransformersEngine(policy.model, policy.tokenizer).end_ids == (1, 7, 8)
    finally:
        policy.model.generation_config.eos_token_id = 1


def test_nothing_queued_gives_nothing(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    assert engine.step() == []
    assert len(drain(engine, [Request(prompt="9;", max_new_tokens=2)])) == 1
    assert engine.step() == []


@pytest.mark.parametrize(("prompt", "prompt_tokens"), [("", 0), ("1" * 64, 64), ("1" * 90, 90)])
def test_a_prompt_with_no_token_or_no_room_is_an_error_and_harms_nobody(
    policy: Policy, prompt: str, prompt_tokens: int
) -> None:
    good = Request(prompt=PROMPTS[0], seed=3)
    answers = complete(policy, [Request(prompt=prompt, seed=4), good])
    assert answers[0] == Completion(
        text="", token_ids=[], logprobs=[], prompt_tokens=prompt_tokens, stop_reason="error", seed=4
    )
    assert answers[1] == complete(policy, [good])[0]


def test_an_answer_is_cut_where_the_context_ends(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    engine.end_ids = ()
    requests = [Request(prompt="1" * 63, max_new_tokens=40), Request(prompt="1" * 50, prefix=(5, 6), max_new_tokens=40)]
    answers = drain(engine, requests)
    assert [(len(answer.token_ids), answer.stop_reason) for answer in answers] == [(1, "length"), (12, "length")]


def test_logits_that_are_not_finite_make_errors(policy: Policy) -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_LIKE, **TOKENS))
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    answers = complete(Policy(model, policy.tokenizer), [Request(prompt="9;"), Request(prompt="9;", temperature=0.0)])
    error = Completion(text="", token_ids=[], logprobs=[], prompt_tokens=2, stop_reason="error")
    assert answers == [error, error]


def test_a_seed_may_be_any_whole_number(policy: Policy) -> None:
    seeds = [2**63 + 5, 5 - 2**63, 2**64 + 5, 5]
    first, same, second, alike = complete(policy, [Request(prompt="9;", seed=seed) for seed in seeds])
    assert first.token_ids == same.token_ids != second.token_ids == alike.token_ids
    assert [answer.seed for answer in (first, same, second, alike)] == seeds


def test_bfloat16_answers_too(policy: Policy) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_LIKE, **TOKENS)).to(torch.bfloat16)
    answers = complete(Policy(model, policy.tokenizer), samples(4), max_rows=8)
    assert len(answers) == 16
    assert all(answer.stop_reason in ("end", "length") and answer.token_ids for answer in answers)


def test_a_boundary_divides_an_answer_into_steps(policy: Policy) -> None:
    plain = [Request(prompt=PROMPTS[0], seed=seed, temperature=2.5, max_new_tokens=50) for seed in range(40)]
    whole = complete(policy, plain)
    divided = complete(policy, [replace(request, boundary="1") for request in plain])
    assert [(answer.text, answer.token_ids, answer.logprobs) for answer in divided] == [
        (answer.text, answer.token_ids, answer.logprobs) for answer in whole
    ]
    assert all(answer.pieces == [] for answer in whole)
    for answer in divided:
        assert "".join(piece.text for piece in answer.pieces) == answer.text
        assert sum(piece.num_tokens for piece in answer.pieces) == len(answer.token_ids)
        assert all(piece.text.endswith("1") and piece.text.count("1") == 1 for piece in answer.pieces[:-1])
        assert answer.pieces[-1].text.count("1") <= 1
    assert max(len(answer.pieces) for answer in divided) > 2


@pytest.mark.parametrize(("boundary", "num_steps"), [("1", 1), ("1", 2), (3, 1), (3, 4)])
def test_it_stops_after_the_steps_that_were_asked_for(policy: Policy, boundary: str | int, num_steps: int) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    engine.end_ids = ()
    requests = [Request(prompt=PROMPTS[i % 4], seed=i, temperature=1.5, max_new_tokens=40) for i in range(12)]
    whole = drain(engine, [replace(request, boundary=boundary) for request in requests])
    short = drain(engine, [replace(request, boundary=boundary, max_steps=num_steps) for request in requests])
    for answer, uncut in zip(short, whole, strict=True):
        assert answer.pieces == uncut.pieces[:num_steps]
        assert answer.token_ids == uncut.token_ids[: len(answer.token_ids)]
        last = answer.pieces[-1]
        is_whole = last.num_tokens == boundary if isinstance(boundary, int) else last.text.endswith(boundary)
        is_done = is_whole and len(answer.pieces) == num_steps
        assert answer.stop_reason == ("step" if is_done else "length")
        assert is_done or len(answer.token_ids) == 40


def test_a_step_goes_on_as_the_uninterrupted_text(policy: Policy) -> None:
    request = Request(prompt=PROMPTS[0], seed=5, temperature=1.5, max_new_tokens=40, boundary="1")
    (whole,) = complete(policy, [request])
    tokens: list[int] = []
    while len(tokens) < len(whole.token_ids):
        (step,) = complete(
            policy, [replace(request, prefix=tuple(tokens), max_new_tokens=40 - len(tokens), max_steps=1)]
        )
        assert len(step.pieces) == 1
        tokens += step.token_ids
    assert tokens == whole.token_ids


def test_an_end_mark_after_a_boundary_is_a_piece_of_its_own(policy: Policy) -> None:
    request = Request(prompt=PROMPTS[0], temperature=0.0, max_new_tokens=9, boundary=1)
    favourite = complete(policy, [request])[0]
    engine = TransformersEngine(policy.model, policy.tokenizer)
    engine.end_ids = (favourite.token_ids[1],)
    (answer,) = drain(engine, [request])
    assert [piece.num_tokens for piece in answer.pieces] == [1, 1] and answer.pieces[-1].text == ""
    assert (answer.stop_reason, answer.text) == ("end", answer.pieces[0].text)


def test_a_boundary_may_be_several_tokens(policy: Policy) -> None:
    requests = [
        Request(prompt=PROMPTS[0], seed=seed, temperature=2.5, max_new_tokens=50, boundary="11") for seed in range(60)
    ]
    pieces = [piece.text for answer in complete(policy, requests) for piece in answer.pieces[:-1]]
    assert pieces
    assert all(text.endswith("11") and text.count("11") == 1 for text in pieces)
