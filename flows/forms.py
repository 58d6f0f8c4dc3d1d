"""What people fill in to run a deployment from Prefect's UI: few fields, checked before anything runs."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.learning.settings import CLONING

AS_BEFORE: Literal["as in the last run"] = "as in the last run"


class Form(BaseModel):
    """Fields of a deployment."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TurnForm(Form):
    """How far to turn the wheel."""

    rounds: Annotated[
        int,
        Field(
            title="Rounds",
            description="Rounds of search, learning and the gate. A run that was broken off with no more left to do is "
            "finished instead.",
            ge=1,
            le=1000,
        ),
    ] = 1


class RetrainForm(Form):
    """What to train a candidate on, and how."""

    selection: Annotated[
        Literal["kept", "newest", "reflective", "attempts"],
        Field(
            title="Train on",
            description="kept: all that the filter keeps. newest: of the last round alone. reflective: of what is "
            "kept, what checks, corrects or proposes another way. attempts: all of the last round, right and wrong, "
            "for objectives that learn from both.",
        ),
    ] = "kept"
    query: Annotated[
        str,
        Field(
            title="Or on what this SQL names",
            description="A SELECT that gives trajectory_id, or the name of a query in the home's folder queries. "
            "Empty: as above.",
            max_length=20_000,
        ),
    ] = ""
    objective: Annotated[
        Literal["as in the last run", "cloning", "dpo", "reinforce", "grpo", "dr_grpo", "dapo"],
        Field(
            title="Objective",
            description="cloning imitates right answers, dpo prefers right to wrong ones, the others are policy "
            "gradients. All but cloning want attempts to train on.",
        ),
    ] = AS_BEFORE
    epochs: Annotated[
        float,
        Field(title="Passes", description="Passes over the trajectories. 0: as in the last run.", ge=0, le=1000),
    ] = 0.0
    learning_rate: Annotated[
        float,
        Field(
            title="Learning rate",
            description="Its peak in cloning, of which the others take a share. 0: as in the last run.",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    start: Annotated[
        Literal["as in the last run", "champion", "initial", "last"],
        Field(
            title="Start from",
            description="Whose weights the training starts from; last: the last candidate's, unless it was much worse.",
        ),
    ] = AS_BEFORE

    def sets(self, before: str) -> list[str]:
        """What it changes, as --set, where the last run had an objective."""
        objective = before if self.objective == AS_BEFORE else self.objective
        given: dict[str, object] = {
            "objective": self.objective,
            "epochs" if objective == CLONING else "refining_epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "start": self.start,
        }
        return [f"learning.{key}={value}" for key, value in given.items() if value not in (0, AS_BEFORE)]


class EvaluateForm(Form):
    """What to measure."""

    checkpoint: Annotated[
        str,
        Field(
            title="Checkpoint",
            description="champion, initial, or the beginning of an id.",
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z0-9_-]+$",
        ),
    ] = "champion"
    split: Annotated[
        Literal["benchmark", "development", "final"],
        Field(title="Problems", description="final is for claims: look at it seldom."),
    ] = "benchmark"


class RollbackForm(Form):
    """Who becomes champion again, and why."""

    checkpoint: Annotated[
        str,
        Field(
            title="Checkpoint",
            description="The beginning of the id of an earlier champion. Empty: the champion before.",
            max_length=64,
            pattern=r"^[A-Za-z0-9_-]*$",
        ),
    ] = ""
    reason: Annotated[
        str, Field(title="Reason", description="Why; kept with the decision.", min_length=1, max_length=1000)
    ] = "asked for in the UI"
