"""The records every room shares."""

import dataclasses
import typing

from storage import records


def test_every_field_of_every_record_is_described() -> None:
    for table, record in records.TABLES.items():
        hints = typing.get_type_hints(record, include_extras=True)
        for column in dataclasses.fields(record):
            metadata = getattr(hints[column.name], "__metadata__", ())
            assert metadata and metadata[0].endswith("."), f"{table}.{column.name}"


def test_an_id_depends_on_its_parts_and_their_order_alone() -> None:
    assert records.make_id("run", "a", 1) == records.make_id("run", "a", "1")
    assert records.make_id("run", "a", 1) != records.make_id("run", 1, "a")
    assert records.make_id("run", "a\x1fb") != records.make_id("round", "a", "b")
