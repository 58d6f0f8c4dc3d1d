"""What people would use instead of this flywheel, each in a process of its own, for so many seconds.

`grpo` is TRL's GRPOTrainer with the verifier as its reward. `sft` is one-shot filtering: sample
for a share of the time, keep what is right, fine-tune with TRL's SFTTrainer for the rest. It
samples as the flywheel does, an engine of ours on each core, which is faster than generate().
peers_wall_clock.py starts them; the packages of the extra `peers` are needed. Policies are kept as
they come, each in a folder that its second names.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from models.cores import num_cores
from models.policy.load import Policy, load_tokenizer, save_policy
from models.policy.pool import borrowed_engine, release_engines
from models.policy.protocol import Completion
from models.policy.settings import PolicySettings
from models.reward.outcome import judge_completions
from models.reward.verifier import judge
from models.search.best_of_n import BestOfN
from models.search.driver import drive
from models.search.protocol import Task
from storage.countdown import CountdownProblems
from storage.problems import open_source
from storage.records import Problem, make_seed
from storage.sources.source import Splits

KEPT_EVERY_S = 5.0
NUM_PROBLEMS = 20_000
"""More than any has time for."""
CHUNK = 500
"""Problems that a core samples between two looks at the clock."""
QUIET: dict[str, Any] = dict(
    use_cpu=not torch.cuda.is_available(),
    bf16=False,
    gradient_checkpointing=False,
    save_strategy="no",
    report_to="none",
    logging_steps=100_000,
    disable_tqdm=True,
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a contestant is given: `Job(who="grpo", policy="…", folder="…", numbers=3, seed=0, seconds=240, …)`."""

    who: str
    policy: str
    """Folder of the one initial policy."""
    folder: str
    """Where it leaves what it made."""
    numbers: int
    problems_seed: int
    seed: int
    seconds: float
    max_new_tokens: int
    settings: dict[str, Any]
    started: float
    """When its process was started, as time.time()."""

    @property
    def spent(self) -> float:
        """Seconds since then."""
        return time.time() - self.started

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


class Clock(TrainerCallback):  # type: ignore[misc]
    """Keeps the policy now and then, and ends the training in time."""

    def __init__(self, job: Job, policy: Policy) -> None:
        self._job, self._policy, self._due = job, policy, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:
        """As Trainer calls it."""
        spent = self._job.spent
        if spent >= self._due or spent >= self._job.seconds:
            save_policy(self._policy, Path(self._job.folder) / f"{spent:07.2f}")
            self._due = spent + KEPT_EVERY_S
        control.should_training_stop = spent >= self._job.seconds


def open_problems(job: Job) -> Iterator[Problem]:
    """Training problems, as the flywheel's: the stream behind what is held out, from a place that the seed says."""
    stream = open_source(CountdownProblems(numbers=job.numbers, seed=job.problems_seed), Splits()).train()
    problems = islice(stream, job.seed * 1000, job.seed * 1000 + NUM_PROBLEMS)
    first = next(problems, None)
    if first is None:
        raise SystemExit(
            f"there are fewer than {job.seed * 1000:,} problems of {job.numbers} numbers: take a smaller seed"
        )
    return chain([first], problems)


def open_policy(job: Job) -> Policy:
    """The initial policy, on the cores of a quota too, which torch does not see."""
    torch.set_num_threads(num_cores())
    return Policy(AutoModelForCausalLM.from_pretrained(job.policy), AutoTokenizer.from_pretrained(job.policy))


def grpo(job: Job, *, learning_rate: float, generations: int, problems: int) -> None:
    """GRPOTrainer; so many problems a step, and generations of each."""
    asked = {problem.prompt: problem for problem in open_problems(job)}
    policy = open_policy(job)

    def reward(prompts: list[str], completions: list[str], **_: object) -> list[float]:
        answered = list(zip(prompts, completions, strict=True))
        return [float(verdict.solved) for verdict in judge([(asked[prompt], text) for prompt, text in answered])]

    arguments = GRPOConfig(
        output_dir=job.folder,
        per_device_train_batch_size=problems * generations,
        num_generations=generations,
        max_completion_length=job.max_new_tokens,
        mask_truncated_completions=True,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        max_steps=1_000_000,
        seed=job.seed,
        **QUIET,
    )
    GRPOTrainer(
        policy.model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in asked]),
        processing_class=policy.tokenizer,
        callbacks=[Clock(job, policy)],
    ).train()


def sft(job: Job, *, share: float, learning_rate: float, rows: int, samples: int, kept: int) -> None:
    """Sample for a share of the time, keep what is right, and SFTTrainer for the rest, with `rows` a batch."""
    solutions = list(sample(job, job.seconds * share, samples, kept))
    policy = open_policy(job)
    began = job.spent
    optimizer = torch.optim.AdamW(policy.model.parameters(), learning_rate, betas=(0.9, 0.95), weight_decay=0.01)

    def fall(step: int) -> float:
        """A cosine to zero at the end of the time, after twenty steps of rise."""
        done = min(1.0, (job.spent - began) / (job.seconds - began))
        return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * done))

    arguments = SFTConfig(
        output_dir=job.folder,
        per_device_train_batch_size=rows,
        train_sampling_strategy="group_by_length",
        num_train_epochs=1_000,
        max_grad_norm=0.5,
        completion_only_loss=True,
        max_length=None,
        seed=job.seed,
        **QUIET,
    )
    SFTTrainer(
        policy.model,
        args=arguments,
        train_dataset=Dataset.from_list(solutions),
        processing_class=policy.tokenizer,
        callbacks=[Clock(job, policy)],
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, fall)),
    ).train()


def sample(job: Job, until: float, samples: int, kept: int) -> Iterator[dict[str, list[int]]]:
    """Right answers as rows for SFTTrainer, at most so many different ones a problem."""
    tokenizer, problems, cores = load_tokenizer(Path(job.policy)), open_problems(job), num_cores()
    num_attempts, num_kept = 0, 0
    with ThreadPoolExecutor(cores) as pool:
        while job.spent < until and (asked := list(islice(problems, CHUNK * cores))):
            parts = [asked[core::cores] for core in range(cores)]
            attempts = [each for part in pool.map(partial(answer, job, samples), parts) for each in part]
            right: dict[str, dict[str, list[int]]] = {}
            for (problem, attempt), verdict in zip(attempts, judge_completions(attempts), strict=True):
                if verdict.solved:
                    right.setdefault(problem.prompt, {})[attempt.text] = attempt.token_ids
            for prompt, answers in right.items():
                prompt_ids = tokenizer(prompt)["input_ids"]
                for ids in islice(answers.values(), kept):
                    num_kept += 1
                    yield {
                        "input_ids": [*prompt_ids, *ids],
                        "completion_mask": [0] * len(prompt_ids) + [1] * len(ids),
                    }
            num_attempts += len(attempts)
    release_engines()
    print(f"{num_attempts:,} attempts, {num_kept:,} kept in {job.spent:.0f} s", file=sys.stderr)


def answer(job: Job, samples: int, problems: Sequence[Problem]) -> list[tuple[Problem, Completion]]:
    """Attempts at problems, by an engine on one core."""
    strategy = BestOfN(samples=samples, temperature=1.0)
    searches = ((problem, strategy.search(make_task(problem, job))) for problem in problems)
    with borrowed_engine(Path(job.policy), PolicySettings(max_rows=512, threads=1)) as engine:
        return [
            (problem, attempt)
            for finished in drive(searches, engine)
            for problem, found in finished
            for attempt in found.attempts
        ]


def make_task(problem: Problem, job: Job) -> Task:
    """With noise of its own under each seed."""
    key = make_seed("peers", job.seed, problem.problem_id)
    return Task(prompt=problem.prompt, seed=key, max_new_tokens=job.max_new_tokens)


TRAINERS = {"grpo": grpo, "sft": sft}


def main() -> None:
    """Do a job."""
    job = Job(**json.loads(sys.argv[1]))
    TRAINERS[job.who](job, **job.settings)


if __name__ == "__main__":
    main()
