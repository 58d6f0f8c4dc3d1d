"""How a policy that people bring is spoken to: kept with its tokenizer, so that whatever opens the folder knows.

Thinking is a switch of the chat template itself (`enable_thinking`, as Qwen3's), set in its first line.
"""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from models.policy.find import PolicyError
from models.policy.load import load_tokenizer
from models.policy.settings import Chat

SWITCH = "enable_thinking"
VALUES = {"thinking": "true", "direct": "false"}


def set_chat(folder: Path, chat: Chat) -> None:
    """Speak to the policy of a folder so from now on. Raises PolicyError where its chat template cannot."""
    tokenizer = load_tokenizer(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)  # what is saved next has one where there is one
    spoken(tokenizer, chat).save_pretrained(folder)


def spoken(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> PreTrainedTokenizerBase:
    """The same tokenizer, spoken to so. Raises PolicyError where its chat template cannot."""
    if chat == "plain":
        tokenizer.chat_template = None
    elif chat in VALUES:
        known = tokenizer.chat_template
        if not isinstance(known, str) or SWITCH not in known:
            raise PolicyError(
                f"policy.chat is {chat!r}, and the model's chat template has no switch {SWITCH}: "
                "set it to auto, or to plain"
            )
        tokenizer.chat_template = f"{{%- set {SWITCH} = {VALUES[chat]} -%}}{known}"
    return tokenizer
