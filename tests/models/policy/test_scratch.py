from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from models.policy.load import Policy, save_policy
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import ScratchSettings

ALPHABET = "0123456789 <>/enduk;pa\n\r\té😀"
TOKENIZER = build_tokenizer([ALPHABET], context=64)
SHAPE = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, context=64)


@given(st.text(ALPHABET))
def test_every_text_of_its_characters_comes_back(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert len(ids) == len(text)
    assert TOKENIZER.decode(ids) == text


@pytest.mark.parametrize("text", ["<end>", "<pad>1", "2<unk>"])
def test_a_text_cannot_spell_a_special_token(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert not set(ids) & {TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id}
    assert TOKENIZER.decode(ids) == text


def test_pad_end_and_unknown_come_first_then_the_characters_in_order() -> None:
    tokenizer = build_tokenizer(["ba", "", "c"], context=8)
    assert tokenizer("abcx")["input_ids"] == [3, 4, 5, 2]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "<end>", "<unk>"]
    assert tokenizer.decode([3, 2, 1]) == "a<unk><end>"
    assert len(tokenizer) == 6


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, same, other = (build_model(SHAPE, TOKENIZER, seed=seed).state_dict() for seed in (4, 4, 5))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("width", [2, 4, 16, 128])
def test_any_allowed_width_makes_a_model(width: int) -> None:
    shape = ScratchSettings(hidden_size=width, num_layers=1, num_heads=1, context=16)
    logits = build_model(shape, TOKENIZER, seed=0)(torch.tensor([[3, 4]])).logits
    assert logits.shape == (1, 2, len(TOKENIZER))


def test_its_folder_is_an_ordinary_hugging_face_folder(tmp_path: Path) -> None:
    model = build_model(SHAPE, TOKENIZER, seed=0)
    save_policy(Policy(model, TOKENIZER), tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(opened, LlamaForCausalLM)
    assert all(torch.equal(weights, opened.state_dict()[name]) for name, weights in model.state_dict().items())
    assert tokenizer("12 <end>😀x")["input_ids"] == TOKENIZER("12 <end>😀x")["input_ids"]
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("left", 64)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
