from models.learning.examples import Solution, from_solutions, from_texts
from models.learning.trainer import Example
from models.policy.scratch import build_tokenizer

TOKENIZER = build_tokenizer(["12>;"], context=16)  # 1, 2, ;, > are 3, 4, 5, 6


def test_solutions_are_learnt_token_for_token_as_sampled() -> None:
    ended = Solution(name="t1", prompt="12>", token_ids=[4, 5, 1], share=0.8)
    cut_off = Solution(name="t2", prompt="2>", token_ids=[3, 3], share=1.0)
    assert from_solutions(TOKENIZER, [ended, cut_off]) == [
        Example(name="t1", prompt_ids=(3, 4, 6), completion_ids=(4, 5, 1), share=0.8),
        Example(name="t2", prompt_ids=(4, 6), completion_ids=(3, 3), share=1.0),
    ]


def test_texts_get_an_end_mark_and_a_number() -> None:
    assert from_texts(TOKENIZER, [("1>", "2;"), ("2>", "")]) == [
        Example(name="demonstration 1", prompt_ids=(3, 6), completion_ids=(4, 5, 1)),
        Example(name="demonstration 2", prompt_ids=(4, 6), completion_ids=(1,)),
    ]
