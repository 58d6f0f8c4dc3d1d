"""When the wheel turns by itself, and where people see it do so. Imports nothing heavy."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError

CRON = re.compile(r"\s*(\S+\s+){4}\S+\s*|\s*@(hourly|daily|weekly|monthly|yearly)\s*")
SHORTEST_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How `flywheel serve` works: `ServeSettings(cron="0 2 * * *", timezone="Europe/Berlin")`."""

    port: Annotated[int, "Port of Prefect's server and UI on this machine."] = 4200
    url: Annotated[str, "A Prefect server to join instead, as http://host:4200/api; empty: one is started."] = ""
    cron: Annotated[str, "When the wheel turns, as 0 2 * * *; empty: not by the clock."] = ""
    timezone: Annotated[str, "The time zone that the cron is meant in, as Europe/Berlin; needed with it."] = ""
    interval_s: Annotated[float, "Seconds from one turn of the wheel to the next, instead of a cron; 0: none."] = 0.0
    rounds: Annotated[int, "Rounds of a scheduled run."] = 1
    paused: Annotated[bool, "Whether the schedule waits until someone resumes it in the UI."] = False

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port is {self.port}; expected 1 to 65535")
        if self.url and not re.fullmatch(r"https?://\S+/api", self.url):
            raise ValueError(f"url is {self.url!r}; expected the address of an API, as http://host:4200/api")
        if self.cron and not CRON.fullmatch(self.cron):
            raise ValueError(f"cron is {self.cron!r}; expected five fields, as 0 2 * * * for two at night")
        if self.cron and not self.cron.strip().startswith("@"):
            try:
                CronSim(self.cron, datetime.now())
            except CronSimError as error:
                raise ValueError(f"cron is {self.cron!r}: {str(error).lower()}; expected as 0 2 * * *") from error
        if self.cron and self.timezone not in available_timezones():
            raise ValueError(
                f"timezone is {self.timezone!r}; expected the name of one, as Europe/Berlin or UTC, for the cron"
            )
        if self.cron and self.interval_s:
            raise ValueError("cron and interval_s are both set; expected one of them")
        if self.timezone and not self.cron:
            raise ValueError("timezone would do nothing without a cron; take it out")
        if self.interval_s and self.interval_s < SHORTEST_S:
            raise ValueError(f"interval_s is {self.interval_s:g}; expected 0, or at least {SHORTEST_S:g}")
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; expected at least 1")
