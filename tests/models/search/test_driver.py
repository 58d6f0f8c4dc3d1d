import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from models.policy.protocol import Completion, Request
from models.search.best_of_n import BestOfN
from models.search.driver import drive
from models.search.protocol import Found, Search, Task, complete, value


def answer(request: Request) -> Completion:
    """The scripted policy: says what it was asked."""
    text = f"{request.prompt}/{len(request.prefix)}/{request.seed}"
    return Completion(text=text, token_ids=[request.seed], logprobs=[0.0], prompt_tokens=1, stop_reason="end")


class ScriptedEngine:
    """Answers by rule, up to `max_rows` requests a step, in any order, and remembers its batches."""

    def __init__(self, max_rows: int, *, choose_order: Callable[[int], Sequence[int]] = range) -> None:
        self.max_rows = max_rows
        self.choose_order = choose_order
        self.waiting: list[tuple[int, Request]] = []
        self.batches: list[int] = []

    def add(self, key: int, request: Request) -> None:
        assert key not in dict(self.waiting)
        self.waiting.append((key, request))

    def step(self) -> list[tuple[int, Completion]]:
        self.waiting = [self.waiting[index] for index in self.choose_order(len(self.waiting))]
        batch, self.waiting = self.waiting[: self.max_rows], self.waiting[self.max_rows :]
        self.batches.append(len(batch))
        return [(key, answer(request)) for key, request in batch]


def shuffled(seed: int) -> Callable[[int], Sequence[int]]:
    rng = random.Random(seed)
    return lambda length: rng.sample(range(length), length)


def wander(name: int) -> Search:
    """Asks several times, another number each time, sometimes nothing, and never in one way twice."""
    heard: list[Completion] = []
    for depth in range(name % 4):
        width = (name + depth) % 3
        requests = [Request(prompt=f"{name}", prefix=(0,) * depth, seed=depth * 10 + i) for i in range(width)]
        heard += yield from complete(requests)
    return Found(heard)


def wander_by_hand(name: int) -> list[Completion]:
    asked = [(depth, i) for depth in range(name % 4) for i in range((name + depth) % 3)]
    return [answer(Request(prompt=f"{name}", prefix=(0,) * depth, seed=depth * 10 + i)) for depth, i in asked]


def flat(batches: Iterable[list[tuple[Any, Found]]]) -> list[tuple[Any, list[Completion]]]:
    """Key and attempts of every search."""
    return [(key, found.attempts) for batch in batches for key, found in batch]


def find_all(
    engine: ScriptedEngine, searches: Iterator[tuple[int, Search]], in_flight: int
) -> dict[int, list[Completion]]:
    finished = flat(drive(searches, engine, in_flight=in_flight))
    found = dict(finished)
    assert len(found) == len(finished)
    return found


@pytest.mark.parametrize(("in_flight", "max_rows", "seed"), [(1, 1, 0), (7, 3, 1), (64, 1000, 2), (2048, 512, 3)])
def test_what_searches_find_does_not_depend_on_batches_or_order(in_flight: int, max_rows: int, seed: int) -> None:
    engine = ScriptedEngine(max_rows, choose_order=shuffled(seed))
    found = find_all(engine, ((name, wander(name)) for name in range(400)), in_flight)
    assert found == {name: wander_by_hand(name) for name in range(400)}


def test_thousands_of_searches_keep_the_engine_full() -> None:
    engine = ScriptedEngine(512)
    found = find_all(engine, ((name, wander(name)) for name in range(5000)), 2048)
    assert found == {name: wander_by_hand(name) for name in range(5000)}
    assert sum(engine.batches) == sum(len(wander_by_hand(name)) for name in range(5000))
    assert set(engine.batches[:-4]) == {512}


def test_no_more_searches_start_than_the_room_asks_for() -> None:
    started = 0

    def searches() -> Iterator[tuple[int, Search]]:
        nonlocal started
        for name in range(1000):
            started += 1
            yield name, BestOfN(samples=4, temperature=1.0).search(Task(prompt="p", seed=0, max_new_tokens=8))

    engine = ScriptedEngine(8)
    driven = drive(searches(), engine, in_flight=10)
    counts = []
    for _ in range(5):
        next(driven)
        counts.append(started)
    assert counts == [3, 5, 7, 9, 11]
    assert len(engine.waiting) == 4


def test_searches_that_ask_nothing_are_not_all_run_at_once() -> None:
    def ask_nothing() -> Search:
        return []
        yield

    batches = list(drive(((name, ask_nothing()) for name in range(25)), ScriptedEngine(1), in_flight=10))
    assert [[key for key, _ in batch] for batch in batches] == [[*range(10)], [*range(10, 20)], [*range(20, 25)]]


def test_no_searches_finish_at_once() -> None:
    engine = ScriptedEngine(1)
    assert list(drive(iter([]), engine)) == []
    assert engine.batches == []


def test_searches_with_one_key_each_finish() -> None:
    finished = [*flat(drive([("same", wander(5)), ("same", wander(7))], ScriptedEngine(3)))]
    assert sorted(finished, key=lambda pair: len(pair[1])) == sorted(
        [("same", wander_by_hand(5)), ("same", wander_by_hand(7))], key=lambda pair: len(pair[1])
    )


def test_finished_searches_are_told_after_each_step() -> None:
    engine = ScriptedEngine(2)
    searches = (
        (name, BestOfN(samples=2, temperature=1.0).search(Task(prompt="p", seed=name, max_new_tokens=8)))
        for name in range(3)
    )
    batches = list(drive(searches, engine))
    assert [[key for key, _ in batch] for batch in batches] == [[0], [1], [2]]


def test_a_search_that_raises_ends_the_drive_and_is_named() -> None:
    def stumble() -> Search:
        yield from complete([Request(prompt="p")])
        raise ZeroDivisionError("no visits")

    with pytest.raises(ZeroDivisionError, match="no visits") as caught:
        list(drive([(1, wander(1)), ("p42", stumble())], ScriptedEngine(8)))
    assert caught.value.__notes__ == ["in the search 'p42'"]


def test_an_engine_that_loses_requests_ends_the_drive() -> None:
    engine = ScriptedEngine(0)
    with pytest.raises(RuntimeError, match="the engine has nothing left to do, and 2 requests have no answer"):
        list(drive([(0, wander(5))], engine))


def test_what_an_abandoned_drive_left_behind_is_nobody_elses_answer() -> None:
    engine = ScriptedEngine(2)
    left = drive(((name, wander(name)) for name in range(3, 50, 4)), engine, in_flight=9)
    next(left)
    left.close()
    assert engine.waiting
    assert find_all(engine, ((name, wander(name)) for name in range(20)), 9) == {
        name: wander_by_hand(name) for name in range(20)
    }


def test_every_request_has_a_key_of_its_own_across_drives() -> None:
    keys: list[int] = []
    for _ in range(2):
        engine = ScriptedEngine(8)
        engine.add = lambda key, request, add=engine.add: (keys.append(key), add(key, request))[1]  # type: ignore[method-assign]
        list(drive([(0, wander(7))], engine))
    assert all(before < after for before, after in pairwise(keys))


class ScriptedGuide:
    """Values an answer by its seed, and remembers its batches."""

    reads_gold = False

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def values(self, asked: Sequence[tuple[int, Completion]]) -> list[float]:
        assert all(answer.text.startswith(f"{name}/") for name, answer in asked)
        self.batches.append([name for name, _ in asked])
        return [1 / (1 + answer.token_ids[0]) for _, answer in asked]


def weigh(name: int) -> Search:
    """Asks what two answers are worth, goes on from the better one, and asks what that is worth."""
    two = yield from complete([Request(prompt=f"{name}", seed=(name + i) % 3) for i in range(2)])
    values = yield from value(two)
    better = two[values.index(max(values))]
    (last,) = yield from complete([Request(prompt=f"{name}", prefix=(1,), seed=better.token_ids[0])])
    return Found([last] if (yield from value([last])) == [max(values)] else [])


def test_what_all_searches_ask_of_the_guide_is_one_batch() -> None:
    guide = ScriptedGuide()
    finished = flat(drive(((n, weigh(n)) for n in range(6)), ScriptedEngine(12), guide))
    assert {name: [answer.token_ids[0] for answer in answers] for name, answers in finished} == {
        0: [0], 1: [1], 2: [0], 3: [0], 4: [1], 5: [0],
    }  # fmt: skip
    assert guide.batches == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("in_flight", "max_rows", "seed"), [(1, 1, 0), (7, 3, 1), (64, 1000, 2)])
def test_what_a_guide_says_does_not_depend_on_batches(in_flight: int, max_rows: int, seed: int) -> None:
    def find(in_flight: int, engine: ScriptedEngine) -> dict[int, list[Completion]]:
        searches = ((name, weigh(name)) for name in range(100))
        return dict(flat(drive(searches, engine, ScriptedGuide(), in_flight=in_flight)))

    assert find(in_flight, ScriptedEngine(max_rows, choose_order=shuffled(seed))) == find(2048, ScriptedEngine(512))


def test_a_search_that_asks_for_nothing_to_be_valued_goes_on() -> None:
    def ask_nothing() -> Search:
        assert (yield from value([])) == []
        return Found((yield from complete([])))

    assert list(drive([(7, ask_nothing())], ScriptedEngine(1), ScriptedGuide())) == [[(7, Found([]))]]


def test_a_search_that_needs_a_guide_and_has_none_is_named() -> None:
    with pytest.raises(RuntimeError, match="the search 3 asks for values, and nobody guides it"):
        list(drive([(3, weigh(3))], ScriptedEngine(8)))
