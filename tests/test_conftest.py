"""A test whose component is missing is skipped and listed, and fails where all are required."""

from pathlib import Path

import pytest

from tests.conftest import COMPONENTS

NEEDY = """
    import pytest

    @pytest.mark.needs("mount")
    def test_needy():
        pass

    def test_modest():
        pass
"""
CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.fixture
def bare(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder of tests under our conftest, on a machine with no commands at all."""
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers = needs(component)")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("FLYWHEEL_REQUIRE", raising=False)
    return pytester


def test_a_missing_component_skips_the_test_and_is_listed(bare: pytest.Pytester) -> None:
    bare.makepyfile(test_a=NEEDY)
    result = bare.runpytest_subprocess("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*= missing mount: *", "test_a.py::test_needy", "*SKIPPED*mount is missing: *"])


def test_where_all_are_required_it_fails(bare: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_REQUIRE", "all")
    bare.makepyfile(test_a=NEEDY)
    result = bare.runpytest_subprocess()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*mount is missing: *", "*= missing mount: *", "test_a.py::test_needy"])


def test_an_unknown_component_stops_the_run(bare: pytest.Pytester) -> None:
    bare.makepyfile(test_a=NEEDY.replace("mount", "moutn"))
    result = bare.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*test_a.py::test_needy needs 'moutn'; tests/conftest.py knows {', '.join(COMPONENTS)}: add it."]
    )


def test_an_outer_configuration_does_not_reach_tests(bare: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_SEARCH__SAMPLES", "99")
    monkeypatch.setenv("PREFECT_API_URL", "http://production")
    bare.makepyfile(
        """
        import os

        def test_environment():
            assert not {"FLYWHEEL_SEARCH__SAMPLES", "PREFECT_API_URL"} & os.environ.keys()
            assert not os.path.exists(os.environ["FLYWHEEL_HOME"])
        """
    )
    bare.runpytest_subprocess().assert_outcomes(passed=1)
