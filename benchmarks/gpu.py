"""What a GPU makes of this project's engine and trainer: models made here, nothing fetched.

Needs this folder, `models/`, torch, transformers and accelerate, and no other package of the project. For Llamas of
100 M and 1 B parameters of bfloat16 products: sampled tokens/s, trained tokens/s, and the share of model FLOPs (six a
weight and token, and those of attention) in what this GPU's products of 8,192 square matrices come to in the same run
(`training_mfu_…`). `search_efficiency`: tokens/s of a tree search through the driver over the bare engine that is given
the same requests. `agreement`: the share of greedy answers of 100 M in float32 that the CPU writes as well.
`--device cpu --sizes tiny` tries the benchmark itself where there is no GPU.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.recorder import Recorder, replay
from benchmarks.result import conclude
from models.learning.batches import Example
from models.learning.cloning import Cloning
from models.learning.settings import TrainingSettings
from models.learning.trainer import train
from models.policy.protocol import Completion, Request
from models.policy.scratch import build_tokenizer
from models.policy.transformers_engine import TransformersEngine
from models.search.beam import Beam
from models.search.budget import Budget
from models.search.driver import drive
from models.search.protocol import Task

CHARACTERS = "0123456789+-*/=;> "
PROMPT_CHARS = 64


@dataclass(frozen=True)
class Size:
    """A model's shape, and how much of it is asked."""

    hidden: int
    layers: int
    heads: int
    rows: int
    new_tokens: int
    batch_tokens: int
    steps: int


SIZES = {
    "tiny": Size(64, 2, 2, rows=32, new_tokens=16, batch_tokens=2048, steps=4),
    "100m": Size(768, 12, 12, rows=1024, new_tokens=256, batch_tokens=65_536, steps=20),
    "1b": Size(2048, 19, 16, rows=512, new_tokens=256, batch_tokens=32_768, steps=12),
}
TEXT_TOKENS = 512
WARM_STEPS = 3


def build(size: Size, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype, device: str) -> LlamaForCausalLM:
    """A Llama with random weights that never ends an answer by itself."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 8 // 3 // 64 * 64,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(dtype)

    def never_end(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        ends = torch.zeros(logits.shape[-1], device=logits.device, dtype=logits.dtype)
        ends[tokenizer.eos_token_id] = -1e4
        return logits + ends

    model.lm_head.register_forward_hook(never_end)
    return model.to(device)  # type: ignore[arg-type, no-any-return]  # its wrapper hides self


def prompts(number: int) -> list[str]:
    """Random texts of one length."""
    rng = Random(0)
    return ["".join(rng.choices(CHARACTERS, k=PROMPT_CHARS)) for _ in range(number)]


def settle(device: str) -> float:
    """The time, when all that was asked of the device is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    return perf_counter()


def sample(engine: TransformersEngine, size: Size, device: str) -> float:
    """Tokens/s."""
    asked = prompts(2 * size.rows)
    for turn in range(2):  # the first warms
        started, num_tokens = settle(device), 0
        for key, prompt in enumerate(asked):
            engine.add(key, Request(prompt=prompt, seed=key, max_new_tokens=size.new_tokens if turn else 8))
        while finished := engine.step():
            num_tokens += sum(len(completion.token_ids) for _, completion in finished)
    return num_tokens / (settle(device) - started)


def learn(model: LlamaForCausalLM, size: Size, device: str) -> float:
    """Trained tokens/s."""
    rows_a_batch = max(1, size.batch_tokens // TEXT_TOKENS)
    rng = Random(0)
    units = [
        (
            Example(
                name=f"{n}",
                prompt_ids=tuple(rng.choices(range(3, 20), k=TEXT_TOKENS // 4)),
                completion_ids=tuple(rng.choices(range(3, 20), k=TEXT_TOKENS - TEXT_TOKENS // 4)),
            ),
        )
        for n in range(rows_a_batch * size.steps)
    ]
    settings = TrainingSettings(
        learning_rate=1e-5,
        epochs=1.0,
        batch_tokens=size.batch_tokens,
        precision="bfloat16",
        recompute=size.hidden > 1024,
    )
    report = train(model, units, Cloning(), settings, seed=0, say=print)
    steps = report.steps[WARM_STEPS:]
    return sum(step.num_tokens for step in steps) / sum(step.seconds for step in steps)


def flops_a_token(model: LlamaForCausalLM, size: Size) -> float:
    """Of a step of training, activations that are computed again not counted."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    return 6 * weights + 12 * size.layers * size.hidden * TEXT_TOKENS / 2


def products(device: str) -> float:
    """FLOPs/s of large products in bfloat16."""
    side, times = (8192, 20) if device != "cpu" else (512, 4)
    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = 0.0
    for _ in range(4):
        started = settle(device)
        for _ in range(times):
            a @ b
        best = max(best, 2 * side**3 * times / (settle(device) - started))
    return best


class Unsure:
    """A guide that knows nothing, so that a search goes to its budget's end."""

    reads_gold = False

    def values(self, asked: Sequence[tuple[Any, Completion]]) -> list[float]:
        """The same of every answer."""
        return [0.5] * len(asked)


def search_efficiency(open_engine: Callable[[], TransformersEngine], size: Size, device: str) -> float:
    """Seconds of the bare engine over those of a search through the driver, on engines that remember nothing yet."""
    beam = Beam(budget=Budget(tokens=size.new_tokens * 16), boundary=16, width=4, expansion=4, rollouts=0)

    def search(engine: Any) -> float:
        started = settle(device)
        tasks = (
            (n, beam.search(Task(prompt=prompt, seed=n, max_new_tokens=size.new_tokens)))
            for n, prompt in enumerate(prompts(size.rows // 4))
        )
        for _ in drive(tasks, engine, Unsure()):
            pass
        return settle(device) - started

    def fresh() -> TransformersEngine:
        """An engine that finds as much memory free for its prefixes as the one before."""
        gc.collect()
        if device != "cpu":
            torch.cuda.empty_cache()
        return open_engine()

    recorder = Recorder(fresh())
    search(recorder)  # warm too
    waves, recorded = recorder.waves, recorder.num_tokens
    del recorder
    first, num_tokens = replay(fresh(), waves)
    searched = search(fresh())
    last, _ = replay(fresh(), waves)
    assert num_tokens == recorded, (num_tokens, recorded)
    return (first + last) / 2 / searched


def agreement(size: Size, tokenizer: PreTrainedTokenizerFast, device: str) -> float:
    """Share of greedy answers in float32 that are the CPU's."""
    answers = []
    for place in (device, "cpu"):
        engine = TransformersEngine(build(size, tokenizer, torch.float32, place), tokenizer, max_rows=32)
        for key, prompt in enumerate(prompts(32)):
            engine.add(key, Request(prompt=prompt, temperature=0, max_new_tokens=32))
        found = dict(engine.step())
        answers.append([found[key].token_ids for key in range(32)])
    return sum(one == other for one, other in zip(*answers, strict=True)) / 32


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["100m", "1b"])
    arguments = parser.parse_args()
    device, names = arguments.device, arguments.sizes
    if device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; --device cpu --sizes tiny tries the benchmark itself")
    if (number := torch.device(device).index) is not None:
        torch.cuda.set_device(number)
    tokenizer = build_tokenizer([CHARACTERS], context=2048)
    limit = products(device)
    print(f"{torch.cuda.get_device_name() if device != 'cpu' else 'CPU'}: {limit / 1e12:.1f} TFLOP/s of products")
    figures: dict[str, float] = {"products_tflops": limit / 1e12}
    for name in names:
        size = SIZES[name]
        model = build(size, tokenizer, torch.bfloat16, device)
        open_engine = partial(TransformersEngine, model, tokenizer, max_rows=size.rows)
        figures[f"sampling_tokens_per_s_{name}"] = sample(open_engine(), size, device)
        if name == names[0]:
            figures["search_efficiency"] = search_efficiency(open_engine, size, device)
        del open_engine
        model = model.float()
        trained = learn(model, size, device)
        figures[f"training_tokens_per_s_{name}"] = trained
        figures[f"training_mfu_{name}"] = trained * flops_a_token(model, size) / limit
        print(", ".join(f"{key} {figure:,.3f}" for key, figure in figures.items() if key.endswith(name)), flush=True)
        del model
    figures["agreement"] = agreement(SIZES[names[0]], tokenizer, device)
    conclude("gpu", figures, {}, seeds=[0])


if __name__ == "__main__":
    main()
