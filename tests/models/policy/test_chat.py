"""How a policy is asked is kept in its folder, for whatever opens it."""

from pathlib import Path

import pytest

from models.policy.chat import set_chat
from models.policy.find import PolicyError
from models.policy.load import Policy, load_tokenizer, save_policy
from models.policy.prompting import encode_prompt
from models.policy.settings import Chat

TEMPLATE = (
    "{% for message in messages %}*{{ message.content }}/{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}1{% else %}2{% endif %}"
)


def folder_with(policy: Policy, folder: Path, template: str | None) -> Path:
    save_policy(policy, folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def asked(folder: Path, prompt: str = "4 26>15;") -> str:
    tokenizer = load_tokenizer(folder)
    return str(tokenizer.decode(encode_prompt(tokenizer, prompt)))


@pytest.mark.parametrize(
    ("chat", "prompt"),
    [("auto", "*4 26>15;/2"), ("plain", "4 26>15;"), ("thinking", "*4 26>15;/2"), ("direct", "*4 26>15;/1")],
)
def test_the_folder_is_asked_so_from_then_on(policy: Policy, tmp_path: Path, chat: Chat, prompt: str) -> None:
    folder = folder_with(policy, tmp_path, TEMPLATE)
    set_chat(folder, chat)
    assert asked(folder) == prompt


@pytest.mark.parametrize("template", [None, "{% for message in messages %}{{ message.content }}{% endfor %}"])
@pytest.mark.parametrize("chat", ["thinking", "direct"])
def test_a_model_that_has_no_such_switch_is_refused(
    policy: Policy, tmp_path: Path, template: str | None, chat: Chat
) -> None:
    folder = folder_with(policy, tmp_path, template)
    with pytest.raises(PolicyError, match=f"policy.chat is '{chat}', and the model's chat template has no switch"):
        set_chat(folder, chat)
    assert asked(folder)
