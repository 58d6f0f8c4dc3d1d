from pathlib import Path
from typing import get_args, get_type_hints

import torch

from models.learning.examples import Solution
from models.learning.finetune import Trained, Watch, build_from_scratch, finetune, imitate
from models.learning.gradient import Gradient
from models.learning.objectives import open_objective
from models.learning.settings import GRADIENTS, InitializationSettings, LearningSettings
from models.policy.load import load_policy
from models.policy.settings import ScratchSettings

TEXTS = [("1 2>3;", "1+2=3;"), ("4 2>2;", "4-2=2;")]
SHAPE = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, context=32)
SETTINGS = InitializationSettings(epochs=3.0, learning_rate=1e-2)


def build(folder: Path) -> Trained:
    trained = build_from_scratch(TEXTS, "0123456789", SETTINGS, SHAPE, seed=0, device="cpu")
    trained.save(folder)
    return trained


def test_every_objective_of_the_settings_is_there() -> None:
    for name in get_args(get_type_hints(LearningSettings)["objective"]):
        opened = open_objective(LearningSettings(objective=name), longest=32)
        assert isinstance(opened, Gradient) == (name in GRADIENTS) == LearningSettings(objective=name).is_gradient


def test_a_policy_from_scratch_knows_its_characters_and_is_a_folder(tmp_path: Path) -> None:
    trained = build(tmp_path)
    model, tokenizer = load_policy(tmp_path)
    assert (trained.num_examples, len(trained.report.steps)) == (2, 3)
    assert tokenizer.decode(tokenizer("0123456789+-=>; x")["input_ids"]) == "0123456789+-=>; <unk>"
    assert len(tokenizer) == 3 + len("0123456789+-=>; ")
    assert all(
        torch.equal(tensor, model.state_dict()[name]) for name, tensor in trained.policy.model.state_dict().items()
    )


def test_training_starts_from_the_parents_weights_and_leaves_its_folder_alone(tmp_path: Path) -> None:
    first = build(tmp_path).policy
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    solution = Solution(
        name="t1", prompt="1 2>3;", token_ids=first.tokenizer("1+2=3;")["input_ids"], share=1.0, weight=1.0
    )
    steps: list[int] = []
    tiny_step = LearningSettings(learning_rate=1e-6, epochs=1.0)
    trained = finetune(
        tmp_path,
        [solution],
        tiny_step,
        seed=0,
        device="cpu",
        max_new_tokens=16,
        watch=Watch(on_step=lambda step: steps.append(step.tokens_done)),
    )
    assert steps == [12]
    for name, tensor in trained.policy.model.state_dict().items():
        torch.testing.assert_close(tensor, first.model.state_dict()[name], atol=1e-5, rtol=0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_imitation_learns_texts(tmp_path: Path) -> None:
    build(tmp_path)
    settings = InitializationSettings(epochs=60.0, learning_rate=2e-2)
    trained = imitate(tmp_path, TEXTS, settings, seed=0, device="cpu")
    assert trained.report.loss < 0.3
