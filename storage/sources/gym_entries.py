"""What runs in the process that `storage/sources/gym.py` starts: reasoning-gym's entries, one JSON line each.

In a process of its own, the library may print, seed the global generators and
follow the order of hashes, which is fixed for it: a dataset's entries are then
the same every time, and none of that reaches us.
"""

import contextlib
import dataclasses
import difflib
import json
import random
import sys
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

CHUNK = 500
"""Entries of one dataset object: some make all of theirs at once, and their size decides what they make."""
MAX_FAILURES = 20
"""Failed chunks in a row, after which the parameters are taken to be at fault."""
OURS = ("seed", "size")


def draw_entries(name: str, params: dict[str, Any], first_seed: int) -> Iterator[dict[str, Any]]:
    """Entries for ever. Raises ValueError on an unknown name, on wrong parameters, and where all draws fail."""
    check(name, params)
    num_failures = 0
    for seed in count(first_seed, CHUNK):
        try:
            for entry in draw_chunk(name, params, seed):
                num_failures = 0
                yield entry
        except Exception as error:  # of whatever kind the library raises; nothing may follow it in its chunk
            num_failures += 1
            if num_failures == MAX_FAILURES:
                raise ValueError(
                    f"reasoning_gym's {name} fails {MAX_FAILURES} times in a row, the last with {error!r}; "
                    f"widen its params {params}."
                ) from error


def draw_chunk(name: str, params: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """The entries of seeds `seed` to `seed + CHUNK - 1`."""
    from reasoning_gym.factory import create_dataset

    dataset = create_dataset(name, **params, seed=seed, size=CHUNK)
    for index in range(CHUNK):
        random.seed(seed + index)  # some draw from the global generator
        yield dataset[index]


def check(name: str, params: dict[str, Any]) -> None:
    """Raise ValueError, with what to write, unless the library takes the name and the parameters."""
    from reasoning_gym.factory import DATASETS, create_dataset

    if name not in DATASETS:
        raise ValueError(f"reasoning_gym has no dataset {name!r}; {_suggest(name, DATASETS)}")
    fields = {field.name: field.default for field in dataclasses.fields(DATASETS[name][1]) if field.name not in OURS}
    for param, value in params.items():
        _check_param(name, param, value, fields)
    try:
        create_dataset(name, **params, seed=0, size=1)
    except Exception as error:
        raise ValueError(f"reasoning_gym's {name} refuses params {params}: {error}; correct them.") from error


def _check_param(name: str, param: str, value: Any, fields: dict[str, Any]) -> None:
    if param in OURS:
        raise ValueError(
            f"params hold {param!r}, which is not theirs to say; use the seed and the splits of the source."
        )
    if param not in fields:
        raise ValueError(f"reasoning_gym's {name} has no param {param!r}; {_suggest(param, fields)}")
    default = fields[param]
    expected = (int, float) if isinstance(default, float) else type(default)
    if isinstance(default, bool | int | float | str) and not isinstance(value, expected):
        raise ValueError(f"param {param!r} of {name} is {value!r}; expected something like {default!r}: correct it.")


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}."


def main() -> None:
    """Write entries for as long as they are read, or why there are none."""
    lines = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            for entry in draw_entries(*json.loads(sys.argv[1])):
                print(json.dumps({"entry": entry}, default=str), file=lines, flush=True)
        except Exception as error:
            print(json.dumps({"refused": str(error)}), file=lines, flush=True)


if __name__ == "__main__":
    main()
