"""What a flow run's page in Prefect's UI says of what it came to."""

import base64

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from storage.home import Home
from storage.overview import overview
from tasks.picture import picture_png
from tasks.verdict import markdown, plain


def put_on_page(home: Home, conclusion: str) -> str:
    """Put a report on the page of the flow run at hand: what it came to, the rounds as a picture and as a table.

    A flow within another leaves that to the one that people started.
    """
    if flow_run.parent_flow_run_id:
        return conclusion.strip()
    seen = overview(home)
    said = "\n\n".join(plain(line) for line in conclusion.splitlines() if line.strip())
    picture = base64.b64encode(picture_png(seen.rounds, seen.decisions)).decode()
    text = f"{said}\n\n![Accuracy by round](data:image/png;base64,{picture})\n\n{markdown(seen)}"
    create_markdown_artifact(text, key="report", description="What the run came to.")
    return conclusion.strip()
