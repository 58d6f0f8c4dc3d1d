"""Small homes and lakes to test with, and records of which only what matters is said."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from storage.home import Home
from storage.lake import KINDS, Lake, columns
from storage.records import TABLES

if TYPE_CHECKING:
    from storage.warehouse import Warehouse

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
EMPTY = {str: "", int: 0, float: 0.0, bool: False, datetime: NOON, list[int]: [], list[float]: [], list[str]: []}
Sample = Callable[..., Any]


def make_sample(table: str, **fields: Any) -> Any:
    """A record of a table: `make_sample("runs", run_id="r1")`, everything else being empty."""
    kinds = {kind: empty for python, empty in EMPTY.items() for kind in [KINDS[python]]}
    empty = {column.name: None if column.is_nullable else kinds[column.kind] for column in columns(table)}
    return TABLES[table](**empty | fields)


@pytest.fixture
def sample() -> Sample:
    return make_sample


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


@pytest.fixture
def lake(home: Home) -> Lake:
    lake = Lake(home)
    lake.seed()
    return lake


@pytest.fixture
def warehouse(lake: Lake) -> "Warehouse":
    from storage.warehouse import Warehouse  # held by a conftest, DuckDB complains of leaks when Python ends

    return Warehouse(lake.home)
