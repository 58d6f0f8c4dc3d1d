"""The configuration: one typed model, a section a room, each with its defaults.

The settings live in the rooms that use them; here they are joined and checked. What is
wrong is told in one go, a line each, and a setting that would do nothing is wrong too.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.config_errors import explain, find_misnamed, name_stranger
from flows.config_layers import ConfigError, Given, find_strangers, read_layers, read_sets, show
from flows.schedule import ServeSettings
from models.evaluation.gate import GateSettings
from models.evaluation.settings import EvaluationSettings
from models.learning.settings import CLONING, InitializationSettings, LearningSettings
from models.policy.settings import SCRATCH, PolicySettings, ScratchSettings
from models.search.settings import SearchSettings
from storage.countdown import CountdownProblems
from storage.problems import KINDS, ProblemSettings
from storage.settings import CurriculumSettings, FilterSettings
from storage.sources.source import Splits

COUNTDOWN = CountdownProblems.kind
KEPT = "kept"
"""Where settings of an earlier run come from: they may stay where others make them idle."""
GENTLER: dict[str, float] = {"learning_rate": 1e-5, "batch_tokens": 8192, "max_grad_norm": 1.0}
PRETRAINED: dict[str, dict[str, float]] = {
    "run": {"workers": 1},
    "policy": {"threads": 0},
    "initialization": GENTLER,
    "learning": GENTLER | {"epochs": 2.0},
}
"""Defaults for a policy that is not made from scratch."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run proceeds: `RunSettings(rounds=6, workers=1)`."""

    rounds: Annotated[int, "Rounds of a run."] = 6
    seed: Annotated[int, "Seed of everything random in a run."] = 0
    shard_problems: Annotated[int, "Problems of a search shard, one Prefect task each."] = 500
    runner: Annotated[
        Literal["threads", "processes", "workers"],
        "What search shards run in: threads or processes here, or workers of a Prefect work pool who see this home.",
    ] = "threads"
    workers: Annotated[int, "threads and processes: search shards at work side by side."] = 2
    plateau_after: Annotated[int, "Refusals in a row after which the wheel is on a plateau."] = 3
    on_plateau: Annotated[Literal["stop", "search_harder"], "What the wheel does there."] = "stop"
    stage_timeout_s: Annotated[float, "Longest time that a stage may take, in seconds."] = 86400.0
    retries: Annotated[int, "Times a failed stage is tried again."] = 1
    min_free_mb: Annotated[int, "Stop cleanly below this much free disk."] = 500

    def __post_init__(self) -> None:
        for name in ("rounds", "shard_problems", "workers", "plateau_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("seed", "retries", "min_free_mb"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if self.stage_timeout_s <= 0:
            raise ValueError(f"stage_timeout_s is {self.stage_timeout_s:g}; expected more than 0")


class Config(BaseModel):
    """All that may be chosen: `Config(search=SearchSettings(samples=16))`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    run: RunSettings = RunSettings()
    problems: Annotated[ProblemSettings, Field(discriminator="kind")] = CountdownProblems()
    splits: Splits = Splits()
    policy: PolicySettings = PolicySettings()
    scratch: ScratchSettings = ScratchSettings()
    initialization: InitializationSettings = InitializationSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    search: SearchSettings = SearchSettings()
    filter: FilterSettings = FilterSettings()
    learning: LearningSettings = LearningSettings()
    gate: GateSettings = GateSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    serve: ServeSettings = ServeSettings()

    @model_validator(mode="after")
    def _check_together(self) -> "Config":
        reasons = [rule.advice.format(c=self) for rule in IMPOSSIBLE if rule.applies(self)]
        if reasons:
            raise ValueError("\n".join(reasons))
        return self

    @property
    def is_scratch(self) -> bool:
        """Whether the policy is made here, from nothing."""
        return self.policy.model == SCRATCH

    @property
    def makes_demonstrations(self) -> bool:
        """Whether demonstrations are made here for the first policy."""
        return self.is_scratch and self.problems.kind == COUNTDOWN and not self.initialization.file


class Impossible(NamedTuple):
    """Settings that cannot go together, and what to do, in which {c.section.key} is a setting."""

    applies: Callable[[Config], bool]
    advice: str


IMPOSSIBLE = (
    Impossible(
        lambda c: c.is_scratch and c.problems.kind != COUNTDOWN and not c.initialization.file,
        'problems.kind is "{c.problems.kind}" and policy.model "scratch", which has nothing to learn these from: '
        "name demonstrations as initialization.file, or a pretrained model as policy.model.",
    ),
    Impossible(
        lambda c: c.is_scratch and c.policy.max_new_tokens >= c.scratch.context,
        "policy.max_new_tokens is {c.policy.max_new_tokens} and scratch.context {c.scratch.context}, which holds "
        "prompt and answer together: lower the one or raise the other.",
    ),
    Impossible(
        lambda c: (c.initialization.tensorboard or c.learning.tensorboard) and find_spec("tensorboardX") is None,
        "learning.tensorboard or initialization.tensorboard is true, and the package tensorboardX is not installed: "
        "python -m pip install 'flywheel[tensorboard]', or set it to false.",
    ),
    Impossible(
        lambda c: c.policy.engine == "vllm" and find_spec("vllm") is None,
        'policy.engine is "vllm", which is not installed here: install it (docs/engines.md), or use "transformers".',
    ),
    Impossible(
        lambda c: c.policy.engine != "transformers" and c.run.runner != "workers" and c.run.workers > 1,
        'policy.engine is "{c.policy.engine}" and run.workers {c.run.workers}: one engine fills its batches by itself; '
        "set run.workers to 1.",
    ),
    Impossible(
        lambda c: c.policy.engine != "transformers" and c.run.runner == "processes",
        'policy.engine is "{c.policy.engine}" and run.runner "processes", whose engines would stay open while the '
        "policy trains: set run.runner to threads.",
    ),
    Impossible(
        lambda c: c.learning.processes > 1 and c.learning.is_on_policy,
        "learning.processes is {c.learning.processes} and learning.on_policy_steps {c.learning.on_policy_steps}: what "
        "samples while it trains does so in one process; set one of them to its default.",
    ),
    Impossible(
        lambda c: c.run.runner == "workers" and not c.serve.url,
        'run.runner is "workers", who are told what to do by a Prefect server: name it as serve.url (docs/scaling.md).',
    ),
    Impossible(
        lambda c: c.policy.engine == "vllm" and c.policy.data_parallel > 1,
        'policy.engine is "vllm" and policy.data_parallel {c.policy.data_parallel}, which a server does: set '
        'policy.engine to "server".',
    ),
    Impossible(
        lambda c: c.policy.engine == "vllm" and ":" in c.policy.device,
        'policy.device is "{c.policy.device}" and policy.engine "vllm", which takes the first GPUs that this process '
        'sees: set policy.engine to "server", or policy.device to "auto" and CUDA_VISIBLE_DEVICES to what is meant.',
    ),
    Impossible(
        lambda c: c.search.strategy != "best_of_n" and c.search.guide == "rules" and c.problems.kind in ("file", "hub"),
        'search.guide is "rules" and problems.kind "{c.problems.kind}", whose problems state no rules that tell '
        "a right answer: set search.guide to verifier, likelihood or agreement.",
    ),
    Impossible(
        lambda c: c.splits.benchmark == 0,
        "splits.benchmark is 0, and without benchmark problems nothing is promoted: reserve some, as 2000.",
    ),
    Impossible(
        lambda c: c.splits.final == 0,
        "splits.final is 0, and a run ends with a claim on final problems: reserve some, as 1000.",
    ),
)


class Idle(NamedTuple):
    """Settings, by pattern, that do nothing where this applies, and why."""

    settings: tuple[str, ...]
    applies: Callable[[Config], bool]
    advice: str

    def covers(self, name: str) -> bool:
        """Whether a setting is among them."""
        return any(fnmatchcase(name, pattern) for pattern in self.settings)


PAIRS_ONLY = ("learning.beta", "learning.nll_weight", "learning.pair_margin", "learning.max_pairs")
GRADIENTS_ONLY = ("learning.on_policy_steps", "learning.kl_weight", "learning.importance_cap", "learning.credit")
TREES_ONLY = ("tokens", "boundary", "guide", "exploration", "widening", "width", "expansion", "rollouts")

IDLE = (
    Idle(
        ("scratch.*",),
        lambda c: not c.is_scratch,
        'policy.model is "{c.policy.model}" and comes with its own shape',
    ),
    Idle(
        ("initialization.*",),
        lambda c: not c.is_scratch and not c.initialization.file,
        'policy.model is "{c.policy.model}" and learns nothing before round 1 without an initialization.file',
    ),
    Idle(
        ("initialization.demonstrations", "initialization.behaviour_share"),
        lambda c: not c.makes_demonstrations,
        'demonstrations are made only where policy.model is "scratch", problems.kind "countdown" and '
        "initialization.file empty",
    ),
    Idle(
        tuple(f"search.{key}" for key in TREES_ONLY),
        lambda c: c.search.strategy == "best_of_n",
        'search.strategy is "best_of_n", which grows no tree',
    ),
    Idle(
        ("search.enough",),
        lambda c: c.search.strategy != "best_of_n" and c.search.guide in ("likelihood", "agreement"),
        'search.guide is "{c.search.guide}", which is never sure that an answer is right',
    ),
    Idle(
        ("search.enough",),
        lambda c: c.search.strategy == "best_of_n" and c.search.enough > c.search.last_look,
        "of {c.search.samples} samples, {c.search.last_look} are made when search last looks whether there are enough",
    ),
    Idle(
        ("search.samples",),
        lambda c: c.search.strategy != "best_of_n",
        'search.strategy is "{c.search.strategy}", which spends search.tokens',
    ),
    Idle(
        ("search.width", "search.expansion", "search.rollouts"),
        lambda c: c.search.strategy == "mcts",
        'search.strategy is "mcts", which keeps no beams',
    ),
    Idle(
        ("search.exploration", "search.widening"),
        lambda c: c.search.strategy in ("beam", "dvts"),
        'search.strategy is "{c.search.strategy}", which explores by its beams',
    ),
    Idle(
        ("learning.warm_up_rounds", "learning.refining_*", "learning.window", *PAIRS_ONLY, *GRADIENTS_ONLY),
        lambda c: c.learning.objective == CLONING,
        'learning.objective is "cloning", which imitates what the filter keeps',
    ),
    Idle(
        PAIRS_ONLY,
        lambda c: c.learning.objective != "dpo",
        'learning.objective is "{c.learning.objective}", which learns from no pairs',
    ),
    Idle(
        GRADIENTS_ONLY,
        lambda c: not c.learning.is_gradient,
        'learning.objective is "{c.learning.objective}", which is no policy gradient',
    ),
    Idle(
        ("learning.group", "learning.group_problems"),
        lambda c: not c.learning.is_on_policy,
        "learning.on_policy_steps is {c.learning.on_policy_steps}, and nothing is sampled for a training",
    ),
    Idle(
        ("learning.refining_epochs", "learning.importance_cap", "learning.credit"),
        lambda c: c.learning.is_on_policy,
        "learning.on_policy_steps is {c.learning.on_policy_steps}, and its sampler learns from each attempt once",
    ),
    Idle(
        ("learning.credit", "learning.pair_margin"),
        lambda c: c.search.strategy == "best_of_n",
        'search.strategy is "best_of_n", which grows no tree of steps',
    ),
    Idle(
        ("learning.epochs", "learning.fade"),
        lambda c: c.learning.objective != CLONING and c.learning.warm_up_rounds == 0,
        'learning.objective is "{c.learning.objective}", and without learning.warm_up_rounds no round clones',
    ),
    Idle(
        ("run.workers",),
        lambda c: c.run.runner == "workers",
        'run.runner is "workers", of whom there are as many as people start',
    ),
    Idle(
        ("policy.chat",),
        lambda c: c.is_scratch,
        'policy.model is "scratch", which knows no chat',
    ),
    Idle(
        ("policy.tensor_parallel", "policy.data_parallel", "policy.gpu_memory"),
        lambda c: c.policy.engine == "transformers",
        'policy.engine is "transformers", which is not vLLM',
    ),
    Idle(
        ("policy.tensor_parallel", "policy.data_parallel", "policy.gpu_memory", "policy.dtype"),
        lambda c: c.policy.is_joined,
        'policy.server is "{c.policy.server}", which has its own',
    ),
    Idle(
        ("policy.server", "policy.timeout_s", "policy.patience_s"),
        lambda c: c.policy.engine != "server",
        'policy.engine is "{c.policy.engine}", which asks no server',
    ),
    Idle(
        ("policy.threads",),
        lambda c: c.policy.engine != "transformers",
        'policy.engine is "{c.policy.engine}", which has processes of its own',
    ),
    Idle(
        ("serve.rounds", "serve.paused"),
        lambda c: not (c.serve.cron or c.serve.interval_s),
        "neither serve.cron nor serve.interval_s says when the wheel turns",
    ),
    Idle(
        ("curriculum.fade",),
        lambda c: c.curriculum.new_share == 1,
        "curriculum.new_share is 1, and new problems have no past attempts",
    ),
)


def load_config(path: Path | None = None, sets: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration: the file's settings, over them the environment's, over them those of --set.

    Without a path the file is ./flywheel.toml, where there is one. Raises ConfigError with all that is wrong.
    """
    return resolve(read_layers(path, sets, environ), find_strangers(environ))


def amend(config: Config, sets: Sequence[str]) -> Config:
    """A configuration with some settings changed, as by --set. Raises ConfigError with all that is wrong."""
    dumped = config.model_dump(mode="json")
    kept = [Given(section, key, value, KEPT) for section, keys in dumped.items() for key, value in keys.items()]
    return resolve({given.name: given for given in [*kept, *read_sets(sets)]})


def resolve(layers: Mapping[str, Given], strangers: Iterable[str] = ()) -> Config:
    """The configuration that settings make, by name; `strangers` are environment variables that name none.

    Raises ConfigError with all that is wrong.
    """
    keys = schema(choose_kind(layers))
    faults = [name_stranger(variable, keys) for variable in strangers]
    faults += [fault for given in layers.values() if (fault := find_misnamed(given, keys)) and not is_default(given)]
    known = {name: given for name, given in layers.items() if given.key in keys.get(given.section, ())}
    try:
        config = build(known)
        faults += find_idle(config, known)
    except ValidationError as error:  # not to be kept: it holds frames that no garbage collection frees
        faults += explain(error, known, keys)
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def to_json(config: Config) -> str:
    """The configuration as it is kept with a run, every setting said."""
    return config.model_dump_json(indent=2)


def from_json(text: str) -> Config:
    """What `to_json` wrote; a choice that this version has no more is as if it was not made.

    Raises ConfigError where a version wrote it that differs in more.
    """
    try:
        return Config.model_validate_json(text)
    except ValidationError as error:
        first, *others = error.errors()
    if first["type"] == "literal_error" and not others and len(first["loc"]) == 2:
        section, key = first["loc"]
        kept = json.loads(text)
        del kept[section][key]
        return Config.model_validate_json(json.dumps(kept))
    place = ".".join(map(str, first["loc"]))
    raise ConfigError(
        f"the configuration kept with this run is not of this version ({place}: {first['msg']}): start a new run."
    )


def differences(old: Config, new: Config) -> list[str]:
    """The settings of a run that differ, as `search.samples: 8 → 16`; those of another kind of problems are –."""
    before, after = (config.model_dump(mode="json", exclude={"serve"}) for config in (old, new))
    both = [(section, key) for section in before for key in before[section] | after[section]]
    pairs = {f"{section}.{key}": (before[section].get(key, ...), after[section].get(key, ...)) for section, key in both}
    return [f"{name}: {_side(was)} → {_side(now)}" for name, (was, now) in pairs.items() if was != now]


def _side(value: object) -> str:
    return "–" if value is ... else value if isinstance(value, str) and value else show(value)


def section_types(kind: str = COUNTDOWN) -> dict[str, type[Any]]:
    """Section to the type of its settings, in order, where problems are of that kind."""
    return {name: type(settings) for name, settings in Config()} | {"problems": KINDS[kind].settings}


def schema(kind: str = COUNTDOWN) -> dict[str, dict[str, Any]]:
    """Section to key to annotated type, in order, where problems are of that kind."""
    return {name: _keys(settings) for name, settings in section_types(kind).items()}


def _keys(settings: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings)}


def choose_kind(layers: Mapping[str, Given]) -> str:
    """The kind of problems asked for; for one that does not exist the nearest, so that its other keys are judged."""
    kind = layers["problems.kind"].value if "problems.kind" in layers else COUNTDOWN
    return next(iter(get_close_matches(str(kind), KINDS, n=1)), COUNTDOWN)


def is_default(given: Given) -> bool:
    """Whether a setting asks for what is so anyway: a file that says all defaults may stay as it is."""
    return bool(given.value == getattr(getattr(Config(), given.section, None), given.key or "-", ...))


def build(known: Mapping[str, Given]) -> Config:
    """The configuration of these settings, and of defaults for the rest. Raises pydantic's ValidationError."""
    data: dict[str, dict[str, Any]] = {"problems": {"kind": COUNTDOWN}}
    for given in known.values():
        data.setdefault(given.section, {})[given.key] = given.value
    if data.get("policy", {}).get("model", SCRATCH) != SCRATCH:
        data |= {section: defaults | data.get(section, {}) for section, defaults in PRETRAINED.items()}
    # In JSON alone does a strict check take a text for a path, and an object for a dataclass.
    return Config.model_validate_json(json.dumps(data, default=str), strict=True)


def find_idle(config: Config, known: Mapping[str, Given]) -> Iterator[str]:
    """A line for each setting that would do nothing."""
    for given in known.values():
        rule = next((rule for rule in IDLE if rule.applies(config) and rule.covers(given.name)), None)
        if rule and given.origin != KEPT and not is_default(given):
            yield f"{given.origin}: {given.name} would do nothing: {rule.advice.format(c=config)}. Take it out."
