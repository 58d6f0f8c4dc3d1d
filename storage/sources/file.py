"""Problems from a file of questions and answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from storage.sources.questions import QuestionMaker, check_columns
from storage.sources.rows import check_suffix


@dataclass(frozen=True, kw_only=True)
class FileProblems:
    """Problems from a JSONL, JSON or Parquet file: `FileProblems(path=Path("gsm8k_train.jsonl"))`."""

    kind: Annotated[Literal["file"], "Questions and answers from a file."] = "file"
    path: Annotated[Path, "A .jsonl, .json (array of objects) or .parquet file."]
    question_column: Annotated[str, "Column of the question; the prompt calls it {question}."] = "question"
    answer_column: Annotated[str, "Column of the gold answer, or of a solution with it after #### or boxed."] = "answer"
    difficulty_column: Annotated[str | None, "Column of a difficulty label, where there is one."] = None
    benchmark_path: Annotated[Path | None, "A file of the same columns that alone makes benchmark and final."] = None
    prompt: Annotated[str, "Prompt template; fields: question, and any column but the answer."] = "{question}"
    seed: Annotated[int, "Seed of the order of problems."] = 0

    def __post_init__(self) -> None:
        for path in filter(None, (self.path, self.benchmark_path)):
            check_suffix(path)
        check_columns(self)


def file_maker(settings: FileProblems) -> QuestionMaker:
    """Makes problems of a file's rows."""
    path, benchmark = settings.path, settings.benchmark_path
    return QuestionMaker(
        name=f"file:{path.name}",
        columns=settings,
        find=lambda: [path],
        find_benchmark=None if benchmark is None else lambda: [benchmark],
        benchmark_name="" if benchmark is None else f"file:{benchmark.name}",
        where=" or ".join(str(each) for each in (path, benchmark) if each),
    )
