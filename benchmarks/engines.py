"""What each engine costs beside what it stands on, with the policy, the prompts and the sampling that rounds have.

`transformers_over_generate`: tokens/s of our engine through the driver over plain `transformers.generate` at the best
of its batch sizes; `transformers_over_limit` is its share of what this machine's matrix products would allow.
`vllm_over_raw`: vLLM through our engine and driver over `LLM.generate`; `server_over_raw`: a `vllm serve` through ours
over a plain client with as many requests in flight. These two are made in vLLM's own environment (`make vllm`), and
left out by `--without-vllm`. `computed_over_generated` is of MCTS: tokens that were computed over those that were
generated, as vLLM's prefix cache left them and as they would be with none; `agreement_…` the share of greedy answers
that are the default engine's. Pairs are measured in turn, both ways round; a ratio is the median.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # gpu.py measures a GPU

import httpx
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.policies import make_policy
from benchmarks.result import conclude
from models.learning.settings import InitializationSettings
from models.policy.load import load_policy, open_engine, save_policy
from models.policy.prompting import encode_prompt
from models.policy.protocol import Completion, Engine, Request
from models.policy.remote import VLLM_DEFAULTS
from models.policy.settings import PolicySettings, ScratchSettings
from models.policy.vllm_engine import CPU_BLOCK
from models.reward.guidance import Rules
from models.search.best_of_n import GREEDY, BestOfN
from models.search.budget import Budget
from models.search.driver import drive
from models.search.mcts import MCTS
from models.search.protocol import Strategy, Task
from storage.countdown import CountdownProblems
from storage.problems import open_source
from storage.records import Problem, Split
from storage.sources.source import Splits

ROOT = Path(__file__).resolve().parents[1]
VLLM = ROOT / ".venv-vllm" / "bin"
GOALS = {"transformers_over_generate": 1.5, "vllm_over_raw": 0.95, "server_over_raw": 0.95}
SHAPE = ScratchSettings(num_heads=4)
"""The default policy's, but for heads of 32 numbers, which vLLM's build for CPUs wants."""
TEMPERATURE = 0.85
MAX_NEW_TOKENS = 96
BATCHES = (64, 128, 256, 512, 1024)
IN_FLIGHT = 256
TRIES = 3
ONCE = BestOfN(samples=1, temperature=TEMPERATURE)


def problems(number: int) -> list[Problem]:
    """What is asked."""
    return open_source(CountdownProblems(), Splits(benchmark=number, final=0, development=0)).reserved()[
        Split.BENCHMARK
    ]


def search(engine: Engine, asked: Sequence[Problem], strategy: Strategy) -> list[list[Completion]]:
    """The attempts at each problem."""
    searches = (
        (place, strategy.search(Task(prompt=problem.prompt, seed=place, max_new_tokens=MAX_NEW_TOKENS)))
        for place, problem in enumerate(asked)
    )
    found = {place: each.attempts for finished in drive(searches, engine) for place, each in finished}
    return [found[place] for place in range(len(asked))]


def rate(work: Callable[[], int]) -> float:
    """Tokens/s of something that gives how many tokens it made."""
    started = perf_counter()
    return work() / (perf_counter() - started)


def through_ours(engine: Engine, asked: Sequence[Problem]) -> int:
    """Tokens of an attempt at each."""
    return sum(len(attempt.token_ids) for (attempt,) in search(engine, asked, ONCE))


def in_turn(ours: Callable[[], int], theirs: Callable[[], int], repeats: int, name: str) -> float:
    """Our rate over theirs, each pair both ways round."""
    ratios = []
    for _ in range(repeats):
        first, other, last = rate(theirs), rate(ours), rate(theirs)
        ratios.append(2 * other / (first + last))
        print(f"{name}: {other:,.0f} tokens/s, alone {first:,.0f} and {last:,.0f}: {ratios[-1]:.3f}", flush=True)
    return median(ratios)


@torch.inference_mode()
def generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Problem], batch_size: int
) -> int:
    """Tokens that `transformers.generate` makes, prompts of like length together."""
    torch.manual_seed(0)
    prompts = sorted((encode_prompt(tokenizer, problem.prompt) for problem in asked), key=len)
    num_tokens = 0
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        padded = tokenizer.pad({"input_ids": [list(ids) for ids in batch]}, return_tensors="pt", padding_side="left")
        made: Any = model.generate(  # type: ignore[operator]  # its wrapper hides what it is
            **padded, do_sample=True, temperature=TEMPERATURE, top_k=0, max_new_tokens=MAX_NEW_TOKENS
        )
        answers = made[:, padded["input_ids"].shape[1] :]
        ended = answers == tokenizer.eos_token_id
        num_tokens += int((ended.cumsum(-1) - ended.long() == 0).sum())  # up to the end mark, which counts
    return num_tokens


def matrix_limit(model: PreTrainedModel) -> float:
    """Tokens/s that this machine's fastest products of float32 would allow: two products a weight and token."""
    best = 0.0
    for size in (128, 512, 2048):
        a, b = torch.randn(512, size), torch.randn(size, size)
        for _ in range(3):
            started, times = perf_counter(), max(4, 2**28 // (512 * size * size))
            for _ in range(times):
                a @ b
            best = max(best, 2 * 512 * size * size * times / (perf_counter() - started))
    return best / (2 * sum(weights.numel() for weights in model.parameters()))


def measure_transformers(folder: Path, asked: Sequence[Problem], repeats: int) -> dict[str, float]:
    """Our engine beside plain generate."""
    policy = load_policy(folder)
    engine = open_engine(folder, PolicySettings())
    few = asked[: max(BATCHES)]
    rates = {size: rate(lambda: generate(policy.model, policy.tokenizer, few, size)) for size in BATCHES}  # noqa: B023
    best = max(rates, key=rates.__getitem__)
    print("transformers.generate:", ", ".join(f"{size} rows {each:,.0f}" for size, each in rates.items()), flush=True)
    through_ours(engine, few)  # warm
    ratio = in_turn(
        lambda: through_ours(engine, asked),
        lambda: generate(policy.model, policy.tokenizer, asked, best),
        repeats,
        "transformers",
    )
    limit = matrix_limit(policy.model)
    ours = rate(lambda: through_ours(engine, asked))
    print(f"matrix products would allow {limit:,.0f} tokens/s, {ours:,.0f} are made")
    return {"transformers_over_generate": ratio, "transformers_over_limit": ours / limit}


def computed_over_generated(engine: Any, asked: Sequence[Problem]) -> dict[str, float]:
    """Of MCTS on an engine that counts what it computes."""
    strategy = MCTS(budget=Budget(tokens=300), boundary=";", temperature=TEMPERATURE)
    counted = Counted(engine)
    before = engine.num_computed_tokens
    searches = (
        (problem, strategy.search(Task(prompt=problem.prompt, seed=place, max_new_tokens=MAX_NEW_TOKENS)))
        for place, problem in enumerate(asked)
    )
    for _ in drive(searches, counted, Rules()):
        pass
    return {
        "computed_over_generated": (engine.num_computed_tokens - before) / counted.num_generated,
        "computed_over_generated_without_cache": counted.num_read / counted.num_generated,
    }


class Counted:
    """An engine, and what it would compute if it remembered nothing."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.num_read = self.num_generated = 0

    def add(self, key: int, request: Request) -> None:
        """Queue a request."""
        self.num_read += len(self._engine.codec.encode(request.prompt)) + len(request.prefix)
        self._engine.add(key, request)

    def step(self) -> list[tuple[int, Completion]]:
        """What is finished."""
        finished: list[tuple[int, Completion]] = self._engine.step()
        made = sum(len(completion.token_ids) for _, completion in finished)
        self.num_read, self.num_generated = self.num_read + made, self.num_generated + made
        return finished

    def close(self) -> None:
        """Nothing of its own."""


def greedy(engine: Engine, asked: Sequence[Problem]) -> list[list[int]]:
    """Token ids of each greedy answer."""
    return [list(attempt.token_ids) for (attempt,) in search(engine, asked, GREEDY)]


# What follows runs in vLLM's environment.


def alone_in_vllm(folder: Path, asked: Sequence[Problem], repeats: int) -> dict[str, Any]:
    """vLLM's own `LLM.generate`."""
    for name, value in VLLM_DEFAULTS.items():
        os.environ.setdefault(name, value)
    from vllm import LLM, SamplingParams, TokensPrompt

    tokenizer = load_policy(folder).tokenizer
    llm = LLM(
        str(folder),
        dtype="float32",
        max_num_seqs=IN_FLIGHT,
        enforce_eager=True,
        enable_chunked_prefill=False,
        block_size=CPU_BLOCK,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )

    def generate_all() -> int:
        prompts = [TokensPrompt(prompt_token_ids=list(encode_prompt(tokenizer, each.prompt))) for each in asked]
        sampling = [
            SamplingParams(temperature=TEMPERATURE, max_tokens=MAX_NEW_TOKENS, seed=n, logprobs=0, detokenize=False)
            for n in range(len(asked))
        ]
        return sum(len(each.outputs[0].token_ids) for each in llm.generate(prompts, sampling, use_tqdm=False))

    generate_all()
    return {"rates": [rate(generate_all) for _ in range(repeats)]}


def ours_in_vllm(folder: Path, asked: Sequence[Problem], repeats: int) -> dict[str, Any]:
    """The same through our engine and driver, its greedy answers, and what a tree costs."""
    engine = open_engine(folder, PolicySettings(engine="vllm", dtype="float32", max_rows=IN_FLIGHT))
    through_ours(engine, asked)
    rates = [rate(lambda: through_ours(engine, asked)) for _ in range(repeats)]
    told = computed_over_generated(engine, asked[:200]) | {"greedy": greedy(engine, asked)}
    engine.close()
    return told | {"rates": rates}


PARTS = {"alone": alone_in_vllm, "ours": ours_in_vllm}


def measure_server(folder: Path, asked: Sequence[Problem], repeats: int) -> dict[str, Any]:
    """`vllm serve` through ours, and through a plain client."""
    server = f"{VLLM / 'vllm'} serve"
    engine: Any = open_engine(
        folder, PolicySettings(engine="server", server=server, dtype="float32", max_rows=IN_FLIGHT)
    )
    try:
        through_ours(engine, asked[:200])
        ratio = in_turn(
            lambda: through_ours(engine, asked),
            lambda: asyncio.run(plain_client(engine, folder, asked)),
            repeats,
            "server",
        )
        return {"server_over_raw": ratio, "greedy": greedy(engine, asked)}
    finally:
        engine.close()


async def plain_client(engine: Any, folder: Path, asked: Sequence[Problem]) -> int:
    """Tokens that a client gets who sends everything at once."""
    client, slots = engine._client, asyncio.Semaphore(IN_FLIGHT)
    limits = httpx.Limits(max_connections=IN_FLIGHT)
    async with httpx.AsyncClient(
        base_url=client.base_url, headers=client.headers, limits=limits, timeout=600, trust_env=False
    ) as plain:

        async def ask(place: int, problem: Problem) -> int:
            body = {
                "model": folder.name,
                "prompt": list(engine.codec.encode(problem.prompt)),
                "temperature": TEMPERATURE,
                "max_tokens": MAX_NEW_TOKENS,
                "seed": place,
                "logprobs": 0,
                "return_token_ids": True,
            }
            async with slots:
                answer = await post(body)
            return len(answer["choices"][0]["token_ids"])

        async def post(body: dict[str, Any]) -> Any:
            """Ask again, as any client does, where a connection was kept that the server had just given up."""
            for attempt in range(TRIES):
                try:
                    return (await plain.post("/completions", json=body)).raise_for_status().json()
                except httpx.TransportError:
                    if attempt + 1 == TRIES:
                        raise
            raise AssertionError("it returned or raised")

        return sum(await asyncio.gather(*(ask(place, problem) for place, problem in enumerate(asked))))


def main() -> None:
    """Measure each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-vllm", action="store_true", help="Measure the default engine alone.")
    parser.add_argument("--in-vllm", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_vllm:
        part = PARTS[arguments.in_vllm]
        print(json.dumps(part(arguments.folder, problems(arguments.problems), arguments.repeats)))
        return
    if not (arguments.without_vllm or VLLM.exists()):
        raise SystemExit("there is no .venv-vllm: `make vllm`, or leave it out by --without-vllm")
    asked = problems(arguments.problems)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        save_policy(make_policy(InitializationSettings(demonstrations=10_000), CountdownProblems(), SHAPE), folder)
        figures = measure_transformers(folder, asked, arguments.repeats)
        if not arguments.without_vllm:
            figures |= beside_vllm(folder, asked, arguments)
    goals = {name: goal for name, goal in GOALS.items() if name in figures}
    conclude("engines", figures, goals, seeds=[0])


def beside_vllm(folder: Path, asked: Sequence[Problem], arguments: argparse.Namespace) -> dict[str, float]:
    """The figures of vLLM, in its own environment and behind HTTP."""

    def run(part: str) -> dict[str, Any]:
        command = [str(VLLM / "python"), __file__, "--in-vllm", part, "--folder", str(folder)]
        sizes = ["--problems", str(arguments.problems), "--repeats", str(arguments.repeats)]
        done = subprocess.run([*command, *sizes], stdout=subprocess.PIPE, text=True, check=True)
        answer = next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{"))
        told: dict[str, Any] = json.loads(answer)  # libraries say more when they end
        print(f"vllm {part}: {', '.join(f'{each:,.0f}' for each in told['rates'])} tokens/s", flush=True)
        return told

    first, in_process, last = run("alone"), run("ours"), run("alone")
    alone = median(first["rates"] + last["rates"])
    in_process["vllm_over_raw"] = median(in_process.pop("rates")) / alone
    behind_http = measure_server(folder, asked, arguments.repeats)
    ours = greedy(open_engine(folder, PolicySettings()), asked)
    figures: dict[str, float] = {}
    for name, told in (("vllm", in_process), ("server", behind_http)):
        same = [one == other for one, other in zip(ours, told.pop("greedy"), strict=True)]
        figures |= told | {f"agreement_{name}": sum(same) / len(same)}
    return figures


if __name__ == "__main__":
    main()
