"""Samples for a training from the weights at hand, step by step; what is sampled is published as any attempt is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from models.learning.examples import Attempt
from models.learning.settings import LearningSettings
from models.policy.protocol import Engine
from models.policy.settings import PolicySettings
from models.search.best_of_n import BestOfN
from models.search.driver import drive
from models.search.settings import SearchSettings
from storage.curriculum import problems_by_id
from storage.lessons import Where, mixed_problems
from storage.records import Problem, Trajectory, make_seed
from tasks.progress import check_stop
from tasks.search import Searcher, Shard
from tasks.turn import Turn

NO_SHARD = Shard(index=-1, first=0, last=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollouts:
    """Attempts by each version of the weights, `checkpoint@step`: `Rollouts(…)(3, engine)`."""

    turn: Turn
    checkpoint_id: str
    parent_id: str
    problems: Sequence[Problem]
    settings: LearningSettings
    search: SearchSettings
    policy: PolicySettings

    @classmethod
    def of(
        cls,
        turn: Turn,
        checkpoint_id: str,
        parent_id: str,
        where: Where,
        settings: LearningSettings,
        search: SearchSettings,
        policy: PolicySettings,
    ) -> "Rollouts":
        """Of problems that teach. Raises ValueError where there is none."""
        ids = mixed_problems(turn.warehouse, where)
        if not ids:
            raise ValueError(
                f"{settings.objective} has no problem to sample in {turn.label}: none was solved by some attempts and "
                "not by others. Take more rounds (learning.window), in a retrain attempts, or easier problems."
            )
        return cls(
            turn=turn,
            checkpoint_id=checkpoint_id,
            parent_id=parent_id,
            problems=problems_by_id(turn.warehouse, ids),
            settings=settings,
            search=search,
            policy=policy,
        )

    def __call__(self, step: int, engine: Engine) -> list[Attempt]:
        """The attempts of a step, from 1: those that are published, or new ones, which then are."""
        key = f"{self.checkpoint_id}-{self.parent_id}-{step:05d}"
        if not self.turn.lake.has("trajectories", key):
            self.turn.lake.publish("trajectories", key, self.sample(step, engine))
        rows: list[Trajectory] = self.turn.lake.read("trajectories", key)
        prompts = {problem.problem_id: problem.prompt for problem in self.problems}
        return [
            Attempt(
                name=row.trajectory_id,
                group=row.problem_id,
                prompt=prompts[row.problem_id],
                token_ids=row.token_ids,
                logprobs=row.logprobs,
                temperature=row.temperature,
                solved=row.solved,
                values=None,
                lengths=None,
            )
            for row in rows
            if row.token_ids
        ]

    def sample(self, step: int, engine: Engine) -> list[Trajectory]:
        """A group of attempts at each of some problems, with the engine as it is."""
        version = f"{self.checkpoint_id}@{step}"
        strategy = BestOfN(samples=self.settings.group, temperature=self.search.temperature)
        searcher = Searcher(
            turn=self.turn,
            shard=NO_SHARD,
            checkpoint_id=version,
            strategy=strategy,
            guide_name="verifier",
            guide=None,
            longest=self.policy.max_new_tokens,
            occasion=f"{version} from {self.parent_id}",
        )
        searches = ((problem, strategy.search(searcher.task(problem, self.policy))) for problem in self.choose(step))
        for finished in drive(searches, engine):
            check_stop()
            searcher.record(finished, self.search)
        return searcher.trajectories

    def choose(self, step: int) -> list[Problem]:
        """Some problems a step: each once before any comes again, in an order of its own each time."""
        num = min(self.settings.group_problems, len(self.problems))
        lap, first = divmod((step - 1) * num, len(self.problems))
        two_laps = [problem for number in (lap, lap + 1) for problem in self.shuffled(number)]
        return list(dict.fromkeys(two_laps[first : first + num]))

    def shuffled(self, lap: int) -> list[Problem]:
        """All problems, in the order of a lap."""
        rng = random.Random(make_seed("rollouts", self.turn.seed, self.checkpoint_id, lap))
        return rng.sample(self.problems, len(self.problems))
