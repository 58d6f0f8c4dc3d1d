"""A tiny policy for every test of the room: random weights, sharp enough to have a favourite."""

import pytest
import torch

from models.policy.load import Policy
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import ScratchSettings

CHARACTERS = "0123456789+-*/=,;> "


@pytest.fixture(scope="session")
def policy() -> Policy:
    tokenizer = build_tokenizer([CHARACTERS], context=64)
    shape = ScratchSettings(hidden_size=32, num_layers=2, num_heads=2, context=64)
    model = build_model(shape, tokenizer, seed=0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4.0)
    return Policy(model.eval(), tokenizer)
