"""How many problems there are for a line's first run, told before it runs dry of them."""

from math import ceil
from threading import Thread

from flows.config import Config
from flows.stages import watcher
from storage.problems import open_source
from storage.records import Run
from tasks.progress import is_stopping


def tell_supply(run: Run, config: Config) -> None:
    """Say it as soon as it is counted, which may take seconds: beside the start, which does not wait for it."""
    say = watcher().say

    def count() -> None:
        text = describe_supply(config, run.num_rounds)
        if not is_stopping():
            say(text)

    Thread(target=count, daemon=True).start()


def describe_supply(config: Config, num_rounds: int) -> str:
    """`countdown: 26,260 problems; 3,500 are reserved, and this run asks for about 15,000 new ones`."""
    source, splits, curriculum = open_source(config.problems, config.splits), config.splits, config.curriculum
    a_round = ceil(curriculum.new_share * curriculum.problems)
    num_new = curriculum.problems + (num_rounds - 1) * a_round  # none is known to the first round
    asked = f"this run asks for about {num_new:,}" if num_rounds else f"each round asks for about {a_round:,}"
    num_reserved = splits.benchmark + splits.final + splits.development
    return f"{source.name}: {source.capacity().describe()}; {num_reserved:,} are reserved, and {asked} new ones"
