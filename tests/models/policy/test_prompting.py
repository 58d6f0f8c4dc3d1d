import copy

from transformers import PreTrainedTokenizerBase

from models.learning.examples import Solution, from_solutions, from_texts
from models.policy.load import Policy
from models.policy.prompting import encode_answer, encode_prompt
from models.policy.protocol import Request
from models.policy.transformers_engine import TransformersEngine

TEMPLATE = "{% for message in messages %}*{{ message.content }}/{% endfor %}{% if add_generation_prompt %}={% endif %}"


def with_template(policy: Policy) -> PreTrainedTokenizerBase:
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_a_prompt_is_plain_text_where_there_is_no_template(policy: Policy) -> None:
    assert policy.tokenizer.decode(encode_prompt(policy.tokenizer, "4 26>15;")) == "4 26>15;"


def test_a_prompt_is_a_users_turn_where_there_is_a_template(policy: Policy) -> None:
    assert policy.tokenizer.decode(encode_prompt(with_template(policy), "4 26>15;")) == "*4 26>15;/="


def test_an_answer_ends_with_the_end_mark_and_is_no_turn(policy: Policy) -> None:
    plain = tuple(policy.tokenizer("26-4=22;")["input_ids"])
    for tokenizer in (policy.tokenizer, with_template(policy)):
        assert encode_answer(tokenizer, "26-4=22;") == (*plain, 1)


def test_sampling_and_training_see_the_same_tokens(policy: Policy) -> None:
    for tokenizer in (policy.tokenizer, with_template(policy)):
        engine = TransformersEngine(policy.model, tokenizer)
        engine.add(0, Request(prompt="4 26>15;", max_new_tokens=3))
        ((_, answer),) = engine.step()
        solution = Solution(name="t1", prompt="4 26>15;", token_ids=answer.token_ids, share=0.5, weight=1.0)
        ((example,),) = from_solutions(tokenizer, [solution])
        ((demonstration,),) = from_texts(tokenizer, [("4 26>15;", "1")])
        assert example.prompt_ids == demonstration.prompt_ids == encode_prompt(tokenizer, "4 26>15;")
        assert len(example.prompt_ids) == answer.prompt_tokens
        assert example.completion_ids == tuple(answer.token_ids)
