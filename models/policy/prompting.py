"""From a prompt to the tokens a policy is given, the same in sampling and in training."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[int, ...]:
    """Token ids of a prompt: as a user's turn where the tokenizer has a chat template, else as plain text."""
    if not tokenizer.chat_template:
        return tuple(tokenizer(prompt)["input_ids"])
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return tuple(ids)


def encode_answer(tokenizer: PreTrainedTokenizerBase, answer: str) -> tuple[int, ...]:
    """Token ids of an answer as the policy would write it, the end mark included."""
    assert tokenizer.eos_token_id is not None, "a policy needs an end mark"
    return (*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)


def context_length(model: PreTrainedModel) -> int | None:
    """Most tokens of prompt and answer together that a model reads; None where it does not say."""
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
