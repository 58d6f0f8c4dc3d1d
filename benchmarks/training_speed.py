"""How fast cloning learns beside TRL's SFTTrainer: real tokens/s, padding not counted, the same rows and model.

Needs the packages of the extra `peers`. A small policy learns Countdown walks, as rounds do; a
Llama of 100 M learns rows as long as GSM8K's, all its weights and by LoRA. Each trainer is first
given every batch size of a grid, then the best of each run in turn, every run a process of its
own. Rows are in order of length, which SFTTrainer keeps: next to nothing of its batches is padding.
Seconds are those of steps after the first two. Memory is the most a process holds while it trains, less what it held
before: weights and libraries are not in it, gradients, optimizer and activations are.
`memory_ratio` is of the 100 M model. `--repeats N` and `--models small` change the size.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.result import conclude
from models.cores import num_cores
from models.learning.adapters import ALPHA, adapted
from models.learning.batches import Example
from models.learning.cloning import Cloning
from models.learning.settings import LearningSettings
from models.learning.trainer import train
from models.policy.load import Policy, load_policy, save_policy
from models.policy.prompting import encode_answer, encode_prompt
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import ScratchSettings
from storage.countdown import CountdownProblems
from storage.demonstrations import CHARACTERS, countdown_demonstrations

GOALS = {"over_trl_small": 1.3, "over_trl_100m": 1.0, "memory_ratio": 1.05}
WARM_STEPS = 2
LORA_RANK = 16
RATE = 1e-4


class Size(NamedTuple):
    """A model, and what it learns from."""

    shape: ScratchSettings
    vocabulary: int
    """0: the characters that walks are written in."""
    num_rows: int
    ours: tuple[int, ...]
    """Tokens a batch."""
    theirs: tuple[int, ...]
    """Rows a batch."""


SIZES = {
    "small": Size(ScratchSettings(), 0, 8_000, (512, 1024, 2048, 4096, 8192), (16, 32, 64, 128, 256)),
    "100m": Size(
        ScratchSettings(hidden_size=768, num_layers=12, num_heads=12, context=1024),
        32_000,
        48,
        (512, 1024, 2048),
        (2, 4, 8),
    ),
}

Row = tuple[list[int], list[int]]
"""Tokens of a prompt, and of what is learnt."""


class Run(NamedTuple):
    """What one process came to."""

    tokens_per_s: float
    memory_mb: float
    batch: int


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(**json.loads(arguments.worker))))
        return
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.models:
            folder = Path(temporary) / name
            prepare(folder, SIZES[name])
            speed, memory = compare(folder, SIZES[name], 0, arguments.repeats)
            figures |= {f"over_trl_{name}": speed, f"memory_ratio_{name}": memory}
            if SIZES[name].vocabulary:
                speed, memory = compare(folder, SIZES[name], LORA_RANK, arguments.repeats)
                figures |= {f"lora_over_trl_{name}": speed, f"lora_memory_ratio_{name}": memory}
                figures["memory_ratio"] = figures.pop(f"memory_ratio_{name}")
    goals = {key: goal for key, goal in GOALS.items() if key in figures}
    conclude("training_speed", figures, goals, at_most=["memory_ratio"], seeds=[0])


def prepare(folder: Path, size: Size) -> None:
    """Write the model and the rows."""
    tokenizer = build_tokenizer([CHARACTERS, "0123456789 ,;>=+-*/"], context=size.shape.context)
    walks = islice(countdown_demonstrations(CountdownProblems(), seed=0, behaviour_share=0.1), size.num_rows)
    rows: list[Row] = [
        (list(encode_prompt(tokenizer, walk.prompt)), list(encode_answer(tokenizer, walk.completion))) for walk in walks
    ]
    model = build_model(size.shape, tokenizer, seed=0)
    if size.vocabulary:
        model.resize_token_embeddings(size.vocabulary)
        rng = Random(0)
        rows = [
            (
                [rng.randrange(3, size.vocabulary) for _ in range(min(300, round(rng.lognormvariate(4.0, 0.4))))],
                [rng.randrange(3, size.vocabulary) for _ in range(min(500, round(rng.lognormvariate(4.7, 0.45))))],
            )
            for _ in range(size.num_rows)
        ]
    rows.sort(key=lambda row: len(row[0]) + len(row[1]))
    save_policy(Policy(model, tokenizer), folder)
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    num_tokens = sum(len(prompt) + len(answer) for prompt, answer in rows)
    print(f"{folder.name}: {model.num_parameters():,} parameters, {len(rows):,} rows of {num_tokens:,} tokens")


def compare(folder: Path, size: Size, rank: int, repeats: int) -> tuple[float, float]:
    """Our tokens/s over theirs, and our memory over theirs, each at its best: medians of pairs."""
    what = f"{folder.name}{', LoRA' if rank else ''}"
    ours = best(what, [dict(who="ours", folder=str(folder), batch=batch, rank=rank) for batch in size.ours])
    theirs = best(what, [dict(who="trl", folder=str(folder), batch=batch, rank=rank) for batch in size.theirs])
    pairs = [(spawn(ours), spawn(theirs)) for _ in range(repeats)]
    for our, their in pairs:
        print(
            f"{what}: ours {our.tokens_per_s:,.0f} tokens/s, {our.memory_mb:,.0f} MB; "
            f"SFTTrainer {their.tokens_per_s:,.0f} tokens/s, {their.memory_mb:,.0f} MB",
            flush=True,
        )
    return (
        median(our.tokens_per_s / their.tokens_per_s for our, their in pairs),
        median(our.memory_mb / their.memory_mb for our, their in pairs),
    )


def best(what: str, jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The job that ran fastest."""
    runs = [spawn(job) for job in jobs]
    for run, job in zip(runs, jobs, strict=True):
        print(
            f"{what}: {job['who']}, batch {run.batch}: {run.tokens_per_s:,.0f} tokens/s, {run.memory_mb:,.0f} MB",
            flush=True,
        )
    return max(zip(runs, jobs, strict=True), key=lambda pair: pair[0].tokens_per_s)[1]


def spawn(job: dict[str, Any]) -> Run:
    """Do a job in a process of its own."""
    command = [sys.executable, __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def work(who: str, folder: str, batch: int, rank: int) -> Run:
    """A training."""
    rows: list[Row] = json.loads((Path(folder) / "rows.json").read_bytes())
    torch.set_num_threads(num_cores())  # of a quota too, which torch does not see
    steps = (clone if who == "ours" else follow_trl)(Path(folder), rows, batch, rank)
    held = next(steps)[0]
    forget_peak()
    times, tokens = zip(*steps, strict=True)
    later = times[-1] - times[WARM_STEPS - 1], sum(tokens[WARM_STEPS:])
    return Run(later[1] / later[0], read_memory("VmHWM") - held, batch)


def clone(folder: Path, rows: Sequence[Row], batch: int, rank: int) -> Iterator[tuple[float, int]]:
    """Ours; the memory held before, then when each step ended and its tokens."""
    policy = load_policy(folder)
    settings = LearningSettings(batch_tokens=batch, epochs=1.0, learning_rate=RATE, lora_rank=rank)
    units = [
        (Example(name=str(number), prompt_ids=tuple(prompt), completion_ids=tuple(answer)),)
        for number, (prompt, answer) in enumerate(rows)
    ]
    ended: list[tuple[float, int]] = []
    with adapted(policy.model, rank, seed=0):
        yield read_memory("VmRSS"), 0
        train(
            policy.model,
            units,
            Cloning(),
            settings,
            seed=0,
            on_step=lambda step: ended.append((monotonic(), step.num_tokens)),
        )
        yield from ended


def follow_trl(folder: Path, rows: Sequence[Row], batch: int, rank: int) -> Iterator[tuple[float, int]]:
    """SFTTrainer's."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ended: list[tuple[float, int]] = []
    tokens: list[int] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: object, **__: object) -> None:
            ended.append((monotonic(), tokens[len(ended)]))

    model = AutoModelForCausalLM.from_pretrained(folder)
    trainer = SFTTrainer(
        model,
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=batch,
            train_sampling_strategy="sequential",
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            max_length=None,
            max_grad_norm=0.5,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            save_strategy="no",
            report_to="none",
            logging_steps=100_000,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(
            [
                {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}
                for prompt, answer in rows
            ]
        ),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=LoraConfig(r=rank, lora_alpha=ALPHA, target_modules="all-linear") if rank else None,
        callbacks=[Watch()],
    )
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(example["input_ids"]) for example in examples))
        return collate(examples)

    trainer.data_collator = counted
    yield read_memory("VmRSS"), 0
    trainer.train()
    yield from ended


def read_memory(what: str) -> float:
    """MB of this process: VmRSS now, VmHWM at its most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what)) / 1024


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    main()
