import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.learning.batches import Example, collate
from models.learning.cloning import Cloning
from models.learning.scoring import target_logits, target_logprobs

MODEL = LlamaForCausalLM(
    LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
)
FIRST = Example(name="a", prompt_ids=(2, 3), completion_ids=(4, 5, 1))
SECOND = Example(name="b", prompt_ids=(3,), completion_ids=(6, 1))
HEAVY = Example(name="b", prompt_ids=(3,), completion_ids=(6, 1), advantages=(2.0, 2.0))


def loss(*examples: Example) -> float:
    batch = collate([(example,) for example in examples], torch.device("cpu"))
    logprobs = target_logprobs(target_logits(MODEL, batch), batch.targets)
    return Cloning()(logprobs, batch).total.item() / Cloning().size(examples)


def test_an_untrained_model_knows_nothing() -> None:
    torch.nn.init.zeros_(MODEL.lm_head.weight)
    torch.testing.assert_close(loss(FIRST, SECOND), torch.tensor(8.0).log().item())
    torch.nn.init.normal_(MODEL.lm_head.weight)


def test_every_learnt_token_counts_alike() -> None:
    torch.testing.assert_close(loss(FIRST, SECOND), (3 * loss(FIRST) + 2 * loss(SECOND)) / 5)


def test_prompts_are_not_learnt() -> None:
    logits = MODEL(input_ids=torch.tensor([[2, 3, 4, 5, 1]])).logits[0].log_softmax(-1)
    torch.testing.assert_close(loss(FIRST), -(logits[1, 4] + logits[2, 5] + logits[3, 1]).item() / 3)


def test_a_weight_is_how_often_a_solution_counts() -> None:
    torch.testing.assert_close(loss(HEAVY), 2 * loss(SECOND))
