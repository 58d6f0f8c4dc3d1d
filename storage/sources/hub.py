"""Problems from a dataset of the Hugging Face hub, in the Parquet files that the hub itself makes of every dataset.

They come from the local cache, else, with a network, from the hub; no code of a dataset's own is run.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from storage.sources.questions import QuestionMaker, check_columns

CONVERTED = "refs/convert/parquet"
"""The revision that holds the hub's own Parquet files, at subset/split/0000.parquet."""
DOWNLOAD = f"hf download {{}} --repo-type dataset --revision {CONVERTED}"
NETWORK_TIMEOUT_S = 4.0
"""For one answer of the hub."""


COMPLETE = ".complete"
"""Beside the files of a split that were fetched to the last."""


class OfflineError(ValueError):
    """The hub cannot be asked."""


@dataclass(frozen=True, kw_only=True)
class HubProblems:
    """Problems from a dataset of the hub: `HubProblems(dataset="openai/gsm8k", subset="main")`."""

    kind: Annotated[Literal["hub"], "Questions and answers from a dataset of the Hugging Face hub."] = "hub"
    dataset: Annotated[str, "The dataset's name on the hub, as openai/gsm8k."]
    subset: Annotated[str, "Its subset (configuration)."] = "default"
    split: Annotated[str, "Its split that trains."] = "train"
    benchmark_split: Annotated[str | None, "Its split that alone makes benchmark and final."] = None
    question_column: Annotated[str, "Column of the question; the prompt calls it {question}."] = "question"
    answer_column: Annotated[str, "Column of the gold answer, or of a solution with it after #### or boxed."] = "answer"
    difficulty_column: Annotated[str | None, "Column of a difficulty label, where there is one."] = None
    prompt: Annotated[str, "Prompt template; fields: question, and any column but the answer."] = "{question}"
    seed: Annotated[int, "Seed of the order of problems."] = 0

    def __post_init__(self) -> None:
        if self.split == self.benchmark_split:
            raise ValueError(f"split and benchmark_split are both {self.split!r}; they must differ.")
        check_columns(self)


def hub_maker(settings: HubProblems) -> QuestionMaker:
    """Makes problems of a dataset's rows."""
    benchmark = settings.benchmark_split
    return QuestionMaker(
        name=f"hub:{settings.dataset}",
        columns=settings,
        find=lambda: find_split(settings.dataset, settings.subset, settings.split),
        find_benchmark=None if benchmark is None else lambda: find_split(settings.dataset, settings.subset, benchmark),
        benchmark_name=f"hub:{settings.dataset}",
        where=f"the dataset {settings.dataset}",
    )


def find_split(dataset: str, subset: str, split: str) -> Sequence[Path]:
    """The Parquet files of a split: from the cache, else fetched. Raises ValueError."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    pattern = f"{subset}/{split}/*.parquet"
    try:
        found = _files(dataset, pattern, is_offline=True)
    except (LocalEntryNotFoundError, ValueError):
        found = []
    if found and (found[0].parent / COMPLETE).exists():
        return found
    try:
        fetched = _fetch(dataset, subset, split, pattern)
    except OfflineError:
        if not found:
            raise
        return found  # as people fetched it themselves
    (fetched[0].parent / COMPLETE).touch()
    return fetched


def _files(dataset: str, pattern: str, *, is_offline: bool) -> Sequence[Path]:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        dataset,
        repo_type="dataset",
        revision=CONVERTED,
        allow_patterns=[pattern],
        etag_timeout=NETWORK_TIMEOUT_S,
        local_files_only=is_offline,
    )
    return sorted(Path(folder).glob(pattern))


def _fetch(dataset: str, subset: str, split: str, pattern: str) -> Sequence[Path]:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = HfApi().dataset_info(dataset, revision=CONVERTED, timeout=NETWORK_TIMEOUT_S)
        names = [file.rfilename for file in info.siblings or ()]
        found = _files(dataset, pattern, is_offline=False) if any(Path(name).match(pattern) for name in names) else []
    except RepositoryNotFoundError as error:
        raise ValueError(f"the hub has no dataset {dataset!r}, or it is not for everyone: check its name.") from error
    except Exception as error:  # the hub's, and those of whichever HTTP library it stands on
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise OfflineError(
            f"the dataset {dataset!r} is not on this machine and cannot be fetched from {constants.ENDPOINT} "
            f"({reason}). Where there is a network: `{DOWNLOAD.format(dataset)}`. "
            "Or name a file, with problems.kind=file."
        ) from error
    if not found:
        raise ValueError(f"{dataset} has no split {split!r} of a subset {subset!r}; it has {_describe(names)}.")
    return found


def _describe(names: Sequence[str]) -> str:
    """In words: `main (test, train), socratic (test, train)`."""
    splits = defaultdict(set)
    for name in names:
        if name.count("/") == 2 and name.endswith(".parquet"):
            subset, split, _ = name.split("/")
            splits[subset].add(split)
    return ", ".join(f"{subset} ({', '.join(sorted(of_it))})" for subset, of_it in sorted(splits.items())) or "none"
