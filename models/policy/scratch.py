"""A small Llama from scratch with a character tokenizer beside it: an ordinary Hugging Face policy."""

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders
from tokenizers import models as tokenizer_models
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.policy.settings import ScratchSettings

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
INITIALIZER_RANGE, ROPE_THETA = 0.06, 500.0
"""For narrow models and short texts: they copy numbers sooner than at 0.02 and 10,000 (measured)."""


def build_tokenizer(texts: Iterable[str], *, context: int) -> PreTrainedTokenizerFast:
    """One token a character of the texts, and pad, end and unknown."""
    characters = sorted(set().union(*map(set, texts)))
    vocabulary = {token: index for index, token in enumerate([PAD, END, UNKNOWN, *characters])}
    tokenizer = Tokenizer(tokenizer_models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # a text that says <end> does not end
    )


def build_model(settings: ScratchSettings, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """An untrained Llama with tied embeddings. The same seed gives the same weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=max(8, settings.hidden_size * 8 // 3 // 8 * 8),
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
