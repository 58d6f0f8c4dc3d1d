import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from models.learning.batches import Example, collate
from models.learning.scoring import entropy, target_logits, target_logprobs, with_old
from models.policy.prompting import encode_prompt
from models.policy.protocol import Request
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import ScratchSettings
from models.policy.transformers_engine import TransformersEngine
from tests.models.learning.test_batches import CPU, UNITS
from tests.models.learning.test_trainer import tiny


def test_old_log_probabilities_are_those_of_each_example_alone_in_order() -> None:
    model = tiny()
    examples = [unit[0] for unit in UNITS]
    scored = with_old(model, examples, batch_tokens=64)
    assert [example.name for example in scored] == [example.name for example in examples]
    for example in scored:
        tokens = torch.tensor([example.prompt_ids + example.completion_ids])
        logprobs = model(input_ids=tokens).logits[0].log_softmax(-1)
        first = len(example.prompt_ids)
        alone = [logprobs[first + i - 1, token].item() for i, token in enumerate(example.completion_ids)]
        assert example.old == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_they_are_what_the_sampler_recorded_at_its_temperature(temperature: float) -> None:
    tokenizer = build_tokenizer(["0123456789 >;+-*/=,"], context=64)
    model = build_model(ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, context=64), tokenizer, seed=0)
    engine = TransformersEngine(model, tokenizer)
    prompt = "4 7 26>15;"
    engine.add(0, Request(prompt=prompt, seed=3, temperature=temperature, max_new_tokens=12))
    ((_, completion),) = engine.step()
    example = Example(
        name="a",
        prompt_ids=encode_prompt(tokenizer, prompt),
        completion_ids=tuple(completion.token_ids),
        temperature=temperature,
    )
    (scored,) = with_old(model, [example], batch_tokens=64)
    assert scored.old == pytest.approx(completion.logprobs, abs=1e-5)


def test_a_model_that_gives_all_logits_is_cut() -> None:
    torch.manual_seed(0)
    model: PreTrainedModel = GPT2LMHeadModel(GPT2Config(vocab_size=12, n_embd=8, n_layer=1, n_head=1, n_positions=32))
    batch = collate(UNITS[:4], CPU)
    logits = target_logits(model.eval(), batch)
    assert logits.shape == (*batch.targets.shape, 12)
    whole = model(input_ids=batch.input_ids).logits[:, -batch.targets.shape[1] :]
    torch.testing.assert_close(target_logprobs(logits, batch.targets), target_logprobs(whole, batch.targets))


def test_entropy_is_that_of_the_distribution() -> None:
    assert entropy(torch.zeros(1, 1, 8)).item() == pytest.approx(torch.tensor(8.0).log().item())
    assert entropy(torch.tensor([[[100.0, 0.0]]])).item() == pytest.approx(0.0, abs=1e-6)
