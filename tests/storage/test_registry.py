"""Checkpoints that are whole or absent, champions that change one at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage.home import DiskFullError
from storage.lake import Lake
from storage.records import Checkpoint, Promotion, Verdict
from storage.registry import LostRaceError, Registry, RegistryError, folder_digest


@pytest.fixture
def registry(lake: Lake) -> Registry:
    return Registry(lake.home)


def write(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.txt").write_text("a b")


@pytest.fixture
def save(registry: Registry, sample: Any) -> Any:
    def save(checkpoint_id: str = "c1", parent_id: str = "") -> Checkpoint:
        return registry.save(sample("checkpoints", checkpoint_id=checkpoint_id, parent_id=parent_id), write)

    return save


@pytest.fixture
def decide(registry: Registry, save: Any) -> Any:
    """Decides on a checkpoint, made on the spot, against the last decision."""

    def decide(candidate: str, verdict: Verdict = Verdict.PROMOTED, round: int = 1) -> Promotion:
        save(candidate)
        return registry.promote(draft(candidate, verdict, round), registry.latest("main"))

    return decide


def draft(candidate: str, verdict: Verdict = Verdict.PROMOTED, round: int = 1) -> Promotion:
    return Promotion(
        line="main", run_id="r1", round=round, candidate_id=candidate, verdict=verdict, reason="why", decided_by="gate"
    )


def test_a_checkpoint_is_a_folder_and_a_row(registry: Registry, save: Any) -> None:
    saved = save()
    folder = registry.open("c1")
    assert saved == registry.find("c1")
    assert (saved.folder, saved.digest) == ("checkpoints/c1", folder_digest(folder))
    assert folder == registry.home.checkpoints / "c1"
    assert (folder / "tokenizer" / "vocab.txt").read_text() == "a b"
    assert os.listdir(registry.home.tmp) == []


def test_a_checkpoint_is_its_owners_alone(registry: Registry, save: Any) -> None:
    save()
    folder = registry.open("c1")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert modes == {"c1": 0o700, "config.json": 0o600, "tokenizer": 0o700, "vocab.txt": 0o600}


def test_the_digest_is_what_sha256sum_says(registry: Registry, save: Any) -> None:
    digest = save().digest
    command = "sha256sum $(find * -type f | LC_ALL=C sort) | sha256sum"
    said = subprocess.run(command, shell=True, cwd=registry.open("c1"), capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == digest


def test_saving_twice_keeps_the_first(registry: Registry, save: Any, sample: Any) -> None:
    first = save()

    def never(folder: Path) -> None:
        raise AssertionError("written again")

    assert registry.save(sample("checkpoints", checkpoint_id="c1", loss=9.0), never) == first


def test_a_folder_without_its_row_gets_one(registry: Registry, save: Any) -> None:
    first = save()
    registry._lake.path("checkpoints", "c1").unlink()
    with pytest.raises(RegistryError, match=r"there is no checkpoint 'c1' in .*, which has 0"):
        registry.open("c1")
    assert save().digest == first.digest
    assert registry.open("c1").is_dir()


def test_a_folder_without_its_row_may_be_discarded_and_one_with_it_not(registry: Registry, save: Any) -> None:
    save("c1")
    save("c2")
    registry._lake.path("checkpoints", "c2").unlink()
    for checkpoint_id in ("c1", "c2", "c3"):
        registry.discard(checkpoint_id)
    assert os.listdir(registry.home.checkpoints) == ["c1"]


def test_of_two_that_save_at_once_one_wins(registry: Registry, sample: Any) -> None:
    def save(content: str) -> Checkpoint:
        checkpoint = sample("checkpoints", checkpoint_id="c1", objective=content)
        return registry.save(checkpoint, write)

    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(save, "abcd"))
    assert len({row.digest for row in saved}) == 1
    assert len({row.objective for row in saved}) == 1
    assert os.listdir(registry.home.tmp) == []


def test_a_failed_save_leaves_nothing(registry: Registry, sample: Any) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(DiskFullError, match=r"full: .* while writing the checkpoint c1; nothing of it was kept"):
        registry.save(sample("checkpoints", checkpoint_id="c1"), fail)
    assert os.listdir(registry.home.tmp) == os.listdir(registry.home.checkpoints) == []


def test_a_killed_save_is_repaired_by_doing_it_again(registry: Registry, save: Any) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from storage import lake, registry
from storage.home import Home
sys.path.insert(0, sys.argv[3])
from conftest import make_sample
from test_registry import write
def die(*arguments): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "row": lake.Lake.publish = die
if sys.argv[2] == "rename": registry._rename_once = die
registry.Registry(Home(Path(sys.argv[1]))).save(make_sample("checkpoints", checkpoint_id="c1"), write)
"""
    for moment in ("rename", "row"):
        command = [sys.executable, "-c", script, str(registry.home.root), moment, str(Path(__file__).parent)]
        assert subprocess.run(command).returncode == -9
        assert (registry.home.checkpoints / "c1").exists() == (moment == "row")
    assert save() == registry.find("c1")
    assert registry.open("c1").is_dir()
    with registry.home.writer():
        assert os.listdir(registry.home.tmp) == []


def test_a_changed_or_missing_folder_is_refused_by_name(registry: Registry, save: Any) -> None:
    save()
    folder = registry.open("c1")
    (folder / "config.json").write_text("{ }")
    with pytest.raises(RegistryError, match=r"checkpoint c1 was changed: its digest is .*restore it from a backup"):
        registry.open("c1")
    (folder / "config.json").rename(folder.parent / "config.json")
    with pytest.raises(RegistryError, match="checkpoint c1 was changed"):
        registry.open("c1")
    folder.rename(folder.parent / "elsewhere")
    with pytest.raises(RegistryError, match="of checkpoint c1 is missing; restore it"):
        registry.open("c1")


@pytest.mark.parametrize("checkpoint_id", ["", "../c1", "a/b", "."])
def test_a_checkpoint_id_that_is_no_folder_name_is_refused(save: Any, checkpoint_id: str) -> None:
    with pytest.raises(ValueError, match="cannot name a"):
        save(checkpoint_id)


def test_the_lineage_ends_at_the_initial_policy(registry: Registry, save: Any) -> None:
    c0, c1, c2 = save("c0"), save("c1", "c0"), save("c2", "c1")
    assert registry.lineage("c2") == [c2, c1, c0]
    with pytest.raises(RegistryError, match="there is no checkpoint 'c9'"):
        registry.lineage("c9")


def test_a_promotion_is_filled_in_and_says_who_is_champion(registry: Registry, decide: Any) -> None:
    decisions = [decide("c0", Verdict.INITIAL, 0), decide("c1"), decide("c2", Verdict.REFUSED, 2)]
    assert decisions == registry.promotions("main")
    told = [(row.sequence, row.previous_id, row.candidate_id, row.champion_id) for row in decisions]
    assert told == [(0, "", "c0", "c0"), (1, "c0", "c1", "c1"), (2, "c1", "c2", "c1")]
    assert registry.champion("main") == "c1"


def test_deciding_the_same_again_changes_nothing(registry: Registry, decide: Any) -> None:
    decide("c0", Verdict.INITIAL, 0)
    assert decide("c1") == decide("c1")
    assert len(registry.promotions("main")) == 2


def test_a_lost_race_names_the_winner(registry: Registry, decide: Any, save: Any) -> None:
    against = decide("c0", Verdict.INITIAL, 0)
    winner = decide("c1")
    save("c2")
    with pytest.raises(
        LostRaceError, match="decision 1 of line 'main' was taken by gate: promoted c1, champion c1"
    ) as lost:
        registry.promote(draft("c2"), against)
    assert lost.value.winner == winner
    assert registry.champion("main") == "c1"


def test_of_many_that_promote_at_once_one_wins(registry: Registry, decide: Any, save: Any) -> None:
    against = decide("c0", Verdict.INITIAL, 0)
    candidates = [save(f"c{n}").checkpoint_id for n in range(1, 9)]

    def promote(candidate: str) -> str | None:
        try:
            return registry.promote(draft(candidate), against).champion_id
        except LostRaceError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [champion for champion in pool.map(promote, candidates) if champion]
    assert won == [registry.champion("main")]


def test_an_unknown_candidate_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="there is no checkpoint 'c1'"):
        registry.promote(draft("c1", Verdict.INITIAL), None)


def test_lines_have_champions_of_their_own(registry: Registry, save: Any) -> None:
    for line in ("a", "a-000000"):
        save(f"c-{line}")
        decision = Promotion(
            line=line, run_id="r", round=0, candidate_id=f"c-{line}", verdict="initial", reason="", decided_by="gate"
        )
        registry.promote(decision, None)
    assert [registry.champion(line) for line in ("a", "a-000000")] == ["c-a", "c-a-000000"]
    with pytest.raises(RegistryError, match="the line 'b' has no champion yet"):
        registry.champion("b")


def test_each_rollback_goes_one_champion_further_back(registry: Registry, decide: Any) -> None:
    decide("c0", Verdict.INITIAL, 0)
    for number in (1, 2, 3):
        decide(f"c{number}")
    decide("c4", Verdict.REFUSED)
    back = [registry.rollback("main", decided_by="ann", reason="worse at fractions") for _ in range(2)]
    assert [(row.verdict, row.candidate_id, row.champion_id, row.decided_by) for row in back] == [
        ("rolled_back", "c2", "c2", "ann"),
        ("rolled_back", "c1", "c1", "ann"),
    ]
    decide("c5", round=2)
    assert registry.rollback("main", decided_by="ann", reason="").champion_id == "c1"
    assert registry.rollback("main", decided_by="ann", reason="").champion_id == "c0"
    with pytest.raises(
        RegistryError, match=r"cannot roll the line 'main' back to the champion before; .*: c1, c2, c3, c5"
    ):
        registry.rollback("main", decided_by="ann", reason="")


def test_a_rollback_may_name_any_former_champion(registry: Registry, decide: Any) -> None:
    for number, verdict in enumerate([Verdict.INITIAL, Verdict.PROMOTED, Verdict.PROMOTED, Verdict.REFUSED]):
        decide(f"c{number}", verdict)
    for target in ("c0", "c2", "c0"):
        row = registry.rollback("main", to_checkpoint_id=target, decided_by="ann", reason="")
        assert row.champion_id == registry.champion("main") == target
    for target in ("c0", "c3", "unknown"):  # the champion, one refused, and none at all
        with pytest.raises(RegistryError, match=f"back to {target}; its champions besides the current one: c1, c2"):
            registry.rollback("main", to_checkpoint_id=target, decided_by="ann", reason="")


def test_there_may_be_nothing_to_roll_back_to(registry: Registry, decide: Any) -> None:
    with pytest.raises(RegistryError, match="besides the current one: none"):
        registry.rollback("main", decided_by="ann", reason="")
    decide("c0", Verdict.INITIAL)
    with pytest.raises(RegistryError, match="besides the current one: none"):
        registry.rollback("main", decided_by="ann", reason="")


def test_weights_that_adapters_belong_to_are_verified_with_them(registry: Registry, save: Any, sample: Any) -> None:
    save("c1")
    description = '{"base_model_name_or_path": "c1"}'
    registry.save(
        sample("checkpoints", checkpoint_id="c2", parent_id="c1"),
        lambda folder: (folder / "adapter_config.json").write_text(description),
    )
    assert registry.open("c2").name == "c2"
    (registry.open("c1") / "config.json").write_text("[]")
    with pytest.raises(RegistryError, match="of checkpoint c1 was changed"):
        registry.open("c2")
