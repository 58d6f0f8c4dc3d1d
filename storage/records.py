"""The records that flow through the wheel: one frozen dataclass a table of the lake.

Standard library only, so that every room may import it. The text beside each
field is its documentation everywhere: docs/warehouse.md and the COMMENTs of the
published database are made from it. Every record names its parents by id, so a
promoted policy walks back to the problems that made it. Times are UTC.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated


class Split(StrEnum):
    """What a problem is for. Benchmark and final are reserved first and never train."""

    FINAL = "final"
    BENCHMARK = "benchmark"
    DEVELOPMENT = "development"
    TRAIN = "train"


class Verdict(StrEnum):
    """What the gate, or a person, said of a candidate."""

    INITIAL = "initial"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


class State(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    PLATEAU = "plateau"
    ABANDONED = "abandoned"


class Kind(StrEnum):
    """What a run is."""

    ROUNDS = "rounds"
    RETRAIN = "retrain"


def make_id(kind: str, *parts: object) -> str:
    """A short id that is a function of its parts alone: `make_id("trajectory", run, 3, ...)`."""
    text = "\x1f".join([kind, *map(str, parts)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def make_seed(*parts: object) -> int:
    """A seed in 0..2^62 that is a function of its parts alone."""
    return int(make_id("seed", *parts)[:16], 16) >> 2


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question and what is needed to verify an answer to it.

    `Problem(problem_id="9f…", source="countdown", split="train", prompt="4 7 26>15;",
    question="4 7 26>15", answer="", data='{"numbers": [4, 7, 26], "target": 15}',
    verifier="countdown", difficulty="3")`
    """

    problem_id: Annotated[str, "Digest of the canonical content: equal problems have equal ids."]
    source: Annotated[str, "Where it comes from: countdown, reasoning_gym:<dataset>, file:<name> or hub:<dataset>."]
    split: Annotated[str, "train, development, benchmark or final."]
    prompt: Annotated[str, "The text the policy is given, from the prompt template."]
    question: Annotated[str, "The question as its source words it."]
    answer: Annotated[str, "The gold answer; empty where rules decide (Countdown)."] = ""
    data: Annotated[str, "JSON: what else verification needs (Countdown: numbers and target)."] = "{}"
    verifier: Annotated[str, "Who judges an answer: countdown, math or reasoning_gym."]
    difficulty: Annotated[str, "The source's own difficulty label (Countdown: how many numbers)."] = ""
    position: Annotated[int, "Place in the source's stream; lower is drawn earlier."] = 0
    created_at: Annotated[datetime, "When it was first drawn."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """A problem's place in a round: what the round searches, in order.

    `Draw(line="…", run_id="…", round=3, place=17, problem_id="9f…", is_new=False)`
    """

    line: Annotated[str, "The line it belongs to."]
    run_id: Annotated[str, "The run it belongs to."]
    round: Annotated[int, "The round that searches it; 0 is the preflight before the first."]
    place: Annotated[int, "Its place in the round, from 0; shards are cut along it."]
    problem_id: Annotated[str, "The problem."]
    is_new: Annotated[bool, "Drawn from the source just now; else chosen again for what it still teaches."]
    budget: Annotated[
        int, "What search may spend on it: attempts (best_of_n), or tokens (trees); 0: as much as is configured."
    ] = 0
    created_at: Annotated[datetime, "When it was drawn."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """One attempt at a problem, right or wrong, with every reward and why.

    `Trajectory(trajectory_id="…", problem_id="9f…", checkpoint_id="c1…", strategy="best_of_n",
    sample=3, text="26-4=22,7;22-7=15;", solved=True, reason="solved", reward=1.0, …)`
    """

    trajectory_id: Annotated[str, "Digest of its position: run, round, problem, strategy, sample."]
    run_id: Annotated[str, "The run that made it."]
    line: Annotated[str, "The line (policy family and benchmark) it belongs to."]
    round: Annotated[int, "The round that made it; 0 is before the first round (preflight)."]
    shard: Annotated[int, "The search shard that made it; -1: sampled by a training for itself."]
    problem_id: Annotated[str, "The problem it tries to solve."]
    checkpoint_id: Annotated[str, "The policy that generated it; id@step, in the training of that one."]
    strategy: Annotated[str, "The search strategy."]
    sample: Annotated[int, "Its index among the problem's trajectories of this round and strategy."]
    seed: Annotated[int, "Seed of its sampling noise."]
    temperature: Annotated[float, "Sampling temperature; 0 is greedy."]
    text: Annotated[str, "What the policy wrote. Untrusted."]
    text_digest: Annotated[str, "Digest of the text without white space: equal digests are duplicates."]
    token_ids: Annotated[list[int], "The generated tokens, in the checkpoint's vocabulary."]
    logprobs: Annotated[list[float], "The sampler's log-probability of each, at the temperature."]
    prompt_tokens: Annotated[int, "Tokens of the prompt."]
    num_tokens: Annotated[int, "Tokens generated, the end mark counted."]
    stop_reason: Annotated[str, "end (the policy ended), length (cut off) or error."]
    answer: Annotated[str, "The answer read from the text; empty where none was found."]
    solved: Annotated[bool, "Whether the verifier accepts the answer: the binary outcome."]
    reason: Annotated[str, "Why: solved, wrong, unparsed, truncated, timeout or error."]
    reward: Annotated[float, "The blended reward that guides search and learning."]
    rewards: Annotated[str, "JSON: each reward by name."]
    behaviours: Annotated[list[str], "Reasoning behaviours recognised in the text."]
    created_at: Annotated[datetime, "When it was published."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A node of a search tree. Best-of-N has no tree and writes none.

    `Step(step_id="…", trajectory_id="…", parent_id="", depth=1, text="26-4=22,7;", visits=5, …)`
    """

    step_id: Annotated[str, "Digest of its position: run, round, problem, strategy, number in the tree."]
    parent_id: Annotated[str, "Its parent; empty at the root, which is the answer not begun."]
    trajectory_id: Annotated[str, "The most valued trajectory that goes through it; empty where none does."]
    run_id: Annotated[str, "The run that made it."]
    line: Annotated[str, "The line it belongs to."]
    round: Annotated[int, "The round that made it."]
    problem_id: Annotated[str, "The problem whose tree it stands in."]
    checkpoint_id: Annotated[str, "The policy that proposed it."]
    strategy: Annotated[str, "The search strategy and its budget."]
    depth: Annotated[int, "Steps from the root."]
    text: Annotated[str, "What this step adds to its parent's text. Untrusted."]
    stop_reason: Annotated[str, "step, where the answer may go on; else end, length or error."]
    num_tokens: Annotated[int, "Tokens generated for it, those of duplicates included."]
    length: Annotated[int | None, "Tokens that it adds to an answer."] = None
    draws: Annotated[int, "How often the policy wrote it here: 1, and a duplicate each time more."]
    visits: Annotated[int, "How often a value was backed up to it."]
    value: Annotated[float, "Mean value backed up to it."]
    guide: Annotated[str, "What valued it: verifier, rules, likelihood or agreement."]
    rewards: Annotated[str, 'JSON object of the rewards of an answer that ends here, as {"outcome": 1.0}; else {}.']
    num_ends: Annotated[
        int, "Different answers that end here or below, but for those that the search's budget cut off."
    ]
    num_right: Annotated[int, "Those of them that solve the problem."]
    prior: Annotated[float, "The policy's prior among its siblings: its share of their length-normalised likelihoods."]
    is_kept: Annotated[bool, "Whether it stands on the path to the search's first choice."]
    process_reward: Annotated[float | None, "Its process reward, where one was given."] = None
    created_at: Annotated[datetime, "When it was published."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """A decision about a trajectory: kept for training or dropped, and why.

    Only new or changed decisions are written; the view `current_selections` shows the last one.
    `Selection(selection_id="…", trajectory_id="…", round=2, rule="default", kept=False, reason="duplicate")`
    """

    selection_id: Annotated[str, "The selection that decided: one a run, round and rule."]
    trajectory_id: Annotated[str, "The trajectory decided on."]
    line: Annotated[str, "The line it belongs to."]
    round: Annotated[int, "The round in which it was decided."]
    rule: Annotated[str, "The filter rule."]
    kept: Annotated[bool, "Whether it trains."]
    reason: Annotated[str, "kept, wrong, reserved, duplicate, over_limit or unbalanced."]
    created_at: Annotated[datetime, "When it was decided."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A trajectory that a retrain was told to train on, whatever the filter says of it.

    `Pick(selection_id="…", trajectory_id="…", run_id="…", line="…")`
    """

    selection_id: Annotated[str, "The selection it belongs to, one a retrain."]
    trajectory_id: Annotated[str, "The trajectory."]
    run_id: Annotated[str, "The retrain."]
    line: Annotated[str, "The line it belongs to."]
    weight: Annotated[float | None, "What its tokens count in cloning, beside others; null is 1."] = None
    created_at: Annotated[datetime, "When it was picked."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A policy on disk: an ordinary Hugging Face folder.

    `Checkpoint(checkpoint_id="…", parent_id="…", folder="checkpoints/…", digest="…", objective="cloning", …)`
    """

    checkpoint_id: Annotated[str, "Id; names its folder."]
    line: Annotated[str, "The line it belongs to."]
    run_id: Annotated[str, "The run that made it."]
    round: Annotated[int, "The round that made it; 0 is the initial policy."]
    parent_id: Annotated[str, "The checkpoint its training started from; empty for the initial policy."]
    selection_id: Annotated[str, "The selection it was trained on; empty for the initial policy."]
    objective: Annotated[str, "Learning objective: initialization, cloning, dpo, reinforce, grpo, dr_grpo or dapo."]
    folder: Annotated[str, "Its folder, relative to the home; the registry fills it in."] = ""
    digest: Annotated[str, "SHA-256 over the folder's files; the registry fills it in."] = ""
    settings: Annotated[str, "JSON: the learning settings as used."]
    num_examples: Annotated[int, "Examples in its training set: solutions, pairs or attempts."]
    stale_share: Annotated[
        float | None, "Share of them that another policy generated than the one that the training started from."
    ] = None
    num_tokens: Annotated[int, "Tokens it was trained on, all epochs together."]
    loss: Annotated[float, "Mean training loss over the last tenth of the steps; of cloning, nats a token."]
    seconds: Annotated[float, "Wall time of the training, seconds."]
    created_at: Annotated[datetime, "When it was published."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencePair:
    """Two ways to go on after the same words, of which the first is preferred: what dpo learns from.

    `PreferencePair(pair_id="…", checkpoint_id="…", kind="steps", chosen="26-4=22,7;", rejected="26+4=30,7;", …)`
    """

    pair_id: Annotated[str, "Digest of the candidate and of both sides."]
    checkpoint_id: Annotated[str, "The candidate that learns from it."]
    line: Annotated[str, "The line it belongs to."]
    run_id: Annotated[str, "The run that made it."]
    round: Annotated[int, "The round that made it."]
    problem_id: Annotated[str, "The problem."]
    kind: Annotated[str, "steps: two steps after one prefix in a tree; answers: two whole answers."]
    chosen_id: Annotated[str, "The trajectory that the preferred one is of."]
    rejected_id: Annotated[str, "The trajectory that the other one is of."]
    prefix: Annotated[str, "What both go on from, after the prompt. Untrusted."]
    chosen: Annotated[str, "The preferred one. Untrusted."]
    rejected: Annotated[str, "The other one. Untrusted."]
    margin: Annotated[float, "By how much more of the answers with it are right; 1 for whole answers."]
    created_at: Annotated[datetime, "When it was published."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStep:
    """A step of the optimizer in the training of a checkpoint.

    `TrainingStep(checkpoint_id="…", objective="grpo", step=12, loss=0.02, grad_norm=0.3, kl=0.001, …)`
    """

    checkpoint_id: Annotated[str, "The checkpoint that was trained."]
    line: Annotated[str, "The line it belongs to."]
    run_id: Annotated[str, "The run that trained it."]
    round: Annotated[int, "The round that trained it; 0 is the initial policy."]
    objective: Annotated[str, "What was learnt."]
    step: Annotated[int, "Its number, from 1."]
    loss: Annotated[float, "The objective's loss of the step."]
    grad_norm: Annotated[float, "Norm of the gradient, before it was clipped."]
    learning_rate: Annotated[float, "Learning rate of the step."]
    num_examples: Annotated[int, "Examples of its batch, both sides of a pair counted."]
    num_tokens: Annotated[int, "Tokens of its batch, prompts included, padding not."]
    seconds: Annotated[float, "Wall time, seconds."]
    tokens_per_s: Annotated[float, "num_tokens / seconds."]
    kl: Annotated[float | None, "Policy gradients: KL(policy before || policy now) on the attempts, nats a token."] = (
        None
    )
    entropy: Annotated[float | None, "Policy gradients: entropy of the policy, nats a token."] = None
    clip_share: Annotated[float | None, "Policy gradients: share of tokens whose gradient was clipped away."] = None
    margin: Annotated[float | None, "dpo: mean difference of the implicit rewards, chosen less rejected."] = None
    pairs_right: Annotated[float | None, "dpo: share of pairs in which the chosen one has the greater reward."] = None
    created_at: Annotated[datetime, "When it was published."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A checkpoint measured on a split. Its rows are in `outcomes`.

    `Evaluation(evaluation_id="…", checkpoint_id="…", split="benchmark", num_problems=2000,
    num_solved=1312, accuracy=0.656, low=0.635, high=0.677, …)`
    """

    evaluation_id: Annotated[str, "Digest of checkpoint, split and settings."]
    checkpoint_id: Annotated[str, "The checkpoint measured."]
    line: Annotated[str, "The line it belongs to."]
    run_id: Annotated[str, "The run that measured it."]
    round: Annotated[int, "The round that measured it."]
    split: Annotated[str, "benchmark decides promotion, final only reports, development tunes."]
    strategy: Annotated[str, "How each problem was answered: greedy, or a search strategy and its budget."]
    settings: Annotated[str, "JSON: the evaluation settings as used."]
    num_problems: Annotated[int, "Problems asked."]
    num_solved: Annotated[int, "Problems solved by the first answer."]
    accuracy: Annotated[float, "num_solved / num_problems."]
    low: Annotated[float, "Lower end of the 95 % Wilson interval of the accuracy."]
    high: Annotated[float, "Upper end of it."]
    pass_at_8: Annotated[float | None, "Unbiased pass@8 of samples at temperature 1, over fewer problems."]
    num_pass_problems: Annotated[int, "Problems behind pass_at_8."]
    chance: Annotated[float | None, "Solved by uniform legal play on the same problems (Countdown)."]
    brute_force: Annotated[float | None, "Mean complete walks that trying everything in order needs (Countdown)."]
    mean_tokens: Annotated[float, "Mean tokens of an answer."]
    truncated_share: Annotated[float, "Share of answers cut off at the token limit."]
    entropy: Annotated[float | None, "Mean -log p of sampled tokens at temperature 1, nats a token."]
    num_tokens: Annotated[int, "Tokens generated for this evaluation."]
    seconds: Annotated[float, "Wall time, seconds."]
    created_at: Annotated[datetime, "When it was published."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One answer in an evaluation. Sample 0 counts for accuracy, 1 and up for pass@k.

    `Outcome(evaluation_id="…", problem_id="9f…", sample=0, solved=True, text="26-4=22,7;22-7=15;", …)`
    """

    evaluation_id: Annotated[str, "The evaluation it belongs to."]
    problem_id: Annotated[str, "The problem asked."]
    sample: Annotated[int, "0: the answer that counts. 1 and up: samples for pass@k."]
    solved: Annotated[bool, "Whether the verifier accepts it."]
    reason: Annotated[str, "Why: solved, wrong, unparsed, truncated, timeout or error."]
    text: Annotated[str, "What the policy wrote. Untrusted."]
    num_tokens: Annotated[int, "Tokens generated."]


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """A decision about who is champion. The highest `sequence` of a line says who is.

    `Promotion(sequence=3, candidate_id="…", champion_id="…", verdict="promoted", p_value=2e-9, …)`
    """

    promotion_id: Annotated[str, "Digest of line and sequence; the registry fills it in."] = ""
    line: Annotated[str, "The line it decides for."]
    sequence: Annotated[
        int, "Place among the line's decisions; the name of its part, so that only one can win it. Filled in too."
    ] = 0
    run_id: Annotated[str, "The run it was made in."]
    round: Annotated[int, "The round it was made in."]
    candidate_id: Annotated[str, "The checkpoint decided on."]
    previous_id: Annotated[str, "The champion before; empty at first. Filled in too."] = ""
    champion_id: Annotated[str, "The champion after; filled in too."] = ""
    verdict: Annotated[str, "initial, promoted, refused or rolled_back."]
    reason: Annotated[str, "The verdict in a sentence."]
    num_problems: Annotated[int, "Benchmark problems compared."] = 0
    wins: Annotated[int, "Problems that the candidate alone solved."] = 0
    losses: Annotated[int, "Problems that the champion alone solved."] = 0
    p_value: Annotated[float | None, "One-sided exact McNemar p-value."] = None
    alpha: Annotated[float | None, "The level it was held against."] = None
    decided_by: Annotated[str, "gate, or the user who decided."]
    created_at: Annotated[datetime, "When it was decided."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """A finished turn of the wheel. Round 0 is the initial policy.

    `Round(round_id="…", run_id="…", round=3, candidate_id="…", champion_id="…", promoted=True, …)`
    """

    round_id: Annotated[str, "Digest of line and round."]
    run_id: Annotated[str, "The run it belongs to."]
    line: Annotated[str, "The line it belongs to."]
    round: Annotated[int, "Its number in the line; 0 is the initial policy."]
    candidate_id: Annotated[str, "The checkpoint it made."]
    champion_id: Annotated[str, "The champion after it."]
    promoted: Annotated[bool, "Whether its candidate took over."]
    reason: Annotated[str, "Why, or why not, in a sentence."]
    num_problems: Annotated[int, "Training problems searched."]
    num_trajectories: Annotated[int, "Trajectories they gave."]
    solved_share: Annotated[float, "Share of those problems that some attempt solved."]
    num_selected: Annotated[int, "Trajectories selected for training."]
    num_tokens: Annotated[int, "Tokens generated for search and evaluation."]
    stage_seconds: Annotated[str, "JSON: wall seconds by stage, those before a stop not counted."]
    seconds: Annotated[float, "Wall seconds of the round, first stage to last, those before a stop not counted."]
    started_at: Annotated[datetime, "When it began, or after a stop went on for the last time."]
    created_at: Annotated[datetime, "When it ended."] = field(default_factory=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A number of rounds, or a retrain, under one configuration. A later row of the same run replaces an earlier one.

    `Run(run_id="…", line="…", state="running", first_round=1, num_rounds=6, config="{…}")`
    """

    run_id: Annotated[str, "Id."]
    kind: Annotated[str, "rounds, or retrain: a candidate from chosen trajectories, between two rounds."] = Kind.ROUNDS
    line: Annotated[str, "The line it turns."]
    state: Annotated[str, "running, finished, plateau or abandoned."]
    first_round: Annotated[int, "Its first round's number; of a retrain the round that it came after."]
    num_rounds: Annotated[int, "Rounds asked for; 0 is for ever, or a retrain."]
    query: Annotated[str, "Of a retrain the SQL that chose its trajectories."] = ""
    config: Annotated[str, "JSON: the configuration as resolved."]
    version: Annotated[str, "Version of this project that ran it."]
    started_at: Annotated[datetime, "When it began."]
    created_at: Annotated[datetime, "When this row was written."] = field(default_factory=now)


TABLES: dict[str, type] = {
    "problems": Problem,
    "draws": Draw,
    "trajectories": Trajectory,
    "steps": Step,
    "selections": Selection,
    "picks": Pick,
    "pairs": PreferencePair,
    "checkpoints": Checkpoint,
    "training_steps": TrainingStep,
    "evaluations": Evaluation,
    "outcomes": Outcome,
    "promotions": Promotion,
    "rounds": Round,
    "runs": Run,
}
"""Table name to record type: the whole of the lake."""
