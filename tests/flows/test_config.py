"""Where settings come from, which of them wins, and what is said of those that are wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.config import Config, ConfigError, RunSettings, differences, from_json, load_config, to_json
from models.search.settings import SearchSettings
from storage.sources.file import FileProblems
from storage.sources.gym import GymProblems

FROM_FILE = ["problems.kind=file", "problems.path=a.jsonl"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without a flywheel.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refuse(*sets: str, path: Path | None = None, **environ: str) -> list[str]:
    """The lines of the error."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, sets, environ)
    return str(caught.value).splitlines()


def test_nothing_given_gives_the_defaults() -> None:
    assert load_config(None, (), {}) == Config()


def test_the_later_of_file_environment_and_set_wins() -> None:
    write(Path("flywheel.toml"), "[search]\nsamples = 2\ntemperature = 0.5\n[run]\nrounds = 2\nseed = 2")
    environ = {"FLYWHEEL_SEARCH__SAMPLES": "3", "FLYWHEEL_RUN__ROUNDS": "3", "FLYWHEEL_HOME": "elsewhere"}
    config = load_config(None, ["search.samples=4"], environ)
    assert config.search == SearchSettings(samples=4, temperature=0.5)
    assert config.run == RunSettings(rounds=3, seed=2)


def test_a_named_file_takes_the_place_of_the_default_one(folder: Path) -> None:
    write(Path("flywheel.toml"), "[run]\nrounds = 2")
    other = write(folder / "other.toml", "[run]\nseed = 3")
    assert load_config(other, (), {}) == Config(run=RunSettings(seed=3))


def test_values_are_toml_and_bare_words_are_texts() -> None:
    sets = ["problems.kind=reasoning_gym", "problems.dataset=chain_sum", "problems.params={max_terms = 4}"]
    config = load_config(None, [*sets, "policy.model=Qwen/Qwen3-0.6B", "run.stage_timeout_s = 60"], {})
    assert config.problems == GymProblems(dataset="chain_sum", params={"max_terms": 4})
    assert config.policy.model == "Qwen/Qwen3-0.6B"
    assert config.run.stage_timeout_s == 60


def test_a_file_that_says_defaults_may_stay_when_a_choice_makes_them_idle(folder: Path) -> None:
    path = write(folder / "a.toml", "[problems]\nkind = 'countdown'\nnumbers = 3\n[scratch]\nhidden_size = 128")
    config = load_config(path, ["problems.kind=file", "problems.path=a.jsonl", "policy.model=some/model"], {})
    assert config.problems == FileProblems(path=Path("a.jsonl"))


def test_a_pretrained_policy_learns_gently_unless_told_otherwise() -> None:
    config = load_config(None, ["policy.model=some/model", "learning.batch_tokens=512"], {})
    assert (config.learning.learning_rate, config.learning.batch_tokens) == (1e-5, 512)
    assert (config.initialization.learning_rate, config.initialization.batch_tokens) == (1e-5, 8192)
    assert load_config(None, ["policy.model=some/model", "learning.learning_rate=2e-3"], {}).learning == (
        replace(Config().learning, batch_tokens=8192, epochs=2.0, max_grad_norm=1.0)
    )


@pytest.mark.parametrize("written", ["0.2", ".2", "+.2", "2e-1"])
def test_numbers_are_read_as_people_write_them(written: str) -> None:
    assert load_config(None, [f"gate.alpha={written}"], {}).gate.alpha == 0.2
    assert load_config(None, [], {"FLYWHEEL_GATE__ALPHA": written}).gate.alpha == 0.2


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("search.sampels=3", "--set: there is no search.sampels; did you mean samples?"),
        ("policy.temperature=3", "--set: there is no policy.temperature; did you mean search.temperature?"),
        (
            "search.x=3",
            "--set: there is no search.x; there are strategy, temperature, enough, samples, tokens, boundary, guide, "
            "adaptive, exploration, widening, width, expansion, rollouts.",
        ),
        ("serch.samples=3", "--set: there is no section 'serch'; did you mean search?"),
        ("samples=3", "--set: there is no section 'samples'; did you mean search.samples?"),
        ("search=3", "--set: search lacks a key; expected section.key = value, as search.samples = 16."),
        (
            "search.samples",
            "--set search.samples: the = is missing; expected SECTION.KEY=VALUE, as search.samples=16.",
        ),
        ("search.samples=many", '--set: search.samples is "many"; expected a whole number.'),
        ("search.samples=8.0", "--set: search.samples is 8.0; expected a whole number."),
        ("run.workers=true", "--set: run.workers is true; expected a whole number."),
        ("run.stage_timeout_s=inf", "--set: run.stage_timeout_s is Infinity; expected a number."),
        ("run.on_plateau=search", '--set: run.on_plateau is "search"; expected "stop" or "search_harder".'),
        ("policy.model=7", "--set: policy.model is 7; expected a text."),
        ("search.samples=0", "--set: in [search], samples is 0; expected at least 1."),
        ("run.rounds=0", "--set: in [run], rounds is 0; expected at least 1."),
        ("run.retries=-1", "--set: in [run], retries is -1; expected 0 or more."),
        ("run.stage_timeout_s=0", "--set: in [run], stage_timeout_s is 0; expected more than 0."),
        (
            "problems.kind=gsm8k",
            '--set: problems.kind is "gsm8k"; expected one of "countdown", "reasoning_gym", "file", "hub".',
        ),
        (
            "problems.kind=file",
            "--set: problems.path is missing; expected a path: A .jsonl, .json (array of objects) or .parquet file.",
        ),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(given: str, line: str) -> None:
    assert refuse(given) == [line]


@pytest.mark.parametrize(
    ("variable", "fix"),
    [
        ("FLYWHEEL_SEARCH_SAMPLES", "did you mean FLYWHEEL_SEARCH__SAMPLES?"),
        ("FLYWHEEL_HOM", "did you mean FLYWHEEL_HOME?"),
        ("FLYWHEEL_ROUNDS", "did you mean FLYWHEEL_RUN__ROUNDS?"),
        ("FLYWHEEL_XYZ", "expected FLYWHEEL_SECTION__KEY, or unset it."),
    ],
)
def test_a_misspelt_variable_is_an_error_with_a_suggestion(variable: str, fix: str) -> None:
    assert refuse(**{variable: "16"}) == [f"{variable}: there is no such variable; {fix}"]


def test_variables_that_are_no_settings_are_left_alone() -> None:
    assert load_config(None, (), {"FLYWHEEL_HOME": "a", "FLYWHEEL_DATA": "b", "FLY_A": "c"}) == Config()


def test_all_that_is_wrong_is_told_at_once_with_where_it_was_given(folder: Path) -> None:
    path = write(folder / "a.toml", "rounds = 3\n[policy]\nmax_rows = 'all'\n[gate]\nalpha = 2\n[lerning]\nfade = 1")
    assert refuse("run.seeds=1", path=path, FLYWHEEL_SEARCH__SAMPLES="x", FLYWHEEL_A__B="1") == [
        f"{path}: there is no section 'rounds'; did you mean run.rounds or serve.rounds?",
        f"{path}: there is no section 'lerning'; did you mean learning?",
        "FLYWHEEL_A__B: there is no section 'a'; there are run, problems, splits, policy, scratch, initialization, "
        "curriculum, search, filter, learning, gate, evaluation, serve.",
        "--set: there is no run.seeds; did you mean seed?",
        f'{path}: policy.max_rows is "all"; expected a whole number.',
        'FLYWHEEL_SEARCH__SAMPLES: search.samples is "x"; expected a whole number.',
        f"{path}: in [gate], alpha is 2.0; expected a number between 0 and 1, such as 0.05.",
    ]


def test_the_kind_of_problems_decides_which_keys_there_are() -> None:
    assert refuse("problems.kind=reasoning_gym", "problems.dataset=chain_sum", "problems.numbers=4") == [
        '--set: there is no problems.numbers where problems.kind is "reasoning_gym"; '
        "there are kind, dataset, params, prompt, seed.",
        'problems.kind is "reasoning_gym" and policy.model "scratch", which has nothing to learn these from: '
        "name demonstrations as initialization.file, or a pretrained model as policy.model.",
    ]


def test_a_misspelt_kind_is_the_only_error() -> None:
    assert len(refuse("problems.kind=reasoning-gym", "problems.dataset=chain_sum")) == 1


@pytest.mark.parametrize(
    ("sets", "idle"),
    [
        (["policy.model=some/model", "scratch.num_layers=4"], "scratch.num_layers"),
        (["policy.model=some/model", "initialization.epochs=3"], "initialization.epochs"),
        (["policy.model=some/model", "initialization.learning_rate=3e-4"], "initialization.learning_rate"),
        (["initialization.file=a.jsonl", "initialization.demonstrations=9"], "initialization.demonstrations"),
        (["initialization.file=a.jsonl", "initialization.behaviour_share=0"], "initialization.behaviour_share"),
        (["curriculum.new_share=1", "curriculum.fade=0.9"], "curriculum.fade"),
        (["search.samples=8", "search.enough=5"], "search.enough"),
        (["serve.port=4300", "serve.rounds=3"], "serve.rounds"),
    ],
)
def test_a_setting_that_would_do_nothing_is_an_error(sets: list[str], idle: str) -> None:
    (line,) = refuse(*sets)
    assert line.startswith(f"--set: {idle} would do nothing: ")
    load_config(None, sets[:1], {})


@pytest.mark.parametrize(
    ("sets", "start"),
    [
        (FROM_FILE, 'problems.kind is "file" and policy.model "scratch"'),
        (["policy.max_new_tokens=256"], "policy.max_new_tokens is 256 and scratch.context 256"),
        (["splits.benchmark=0"], "splits.benchmark is 0"),
        (
            ["search.strategy=mcts", "search.guide=rules", "policy.model=some/model", *FROM_FILE],
            'search.guide is "rules" and problems.kind "file"',
        ),
        (["splits.final=0"], "splits.final is 0, and a run ends with a claim on final problems: reserve some, as"),
    ],
)
def test_settings_that_cannot_go_together_are_an_error(sets: list[str], start: str) -> None:
    (line,) = refuse(*sets)
    assert line.startswith(start)


@pytest.mark.parametrize("fix", ["initialization.file=b.jsonl", "policy.model=some/model"])
def test_other_problems_need_demonstrations_or_a_pretrained_model(fix: str) -> None:
    config = load_config(None, [*FROM_FILE, fix], {})
    assert config.problems.kind == "file"


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    missing = folder / "missing.toml"
    assert refuse(path=missing) == [
        f"{missing}: there is no such file; name one that exists, or none for the defaults."
    ]
    assert refuse(path=folder) == [f"{folder}: cannot be read (Is a directory); expected a TOML file."]
    (folder / "b.toml").write_bytes(b"\xff\xfe")
    assert refuse(path=folder / "b.toml")[0].startswith(f"{folder / 'b.toml'}: is not TOML: ")


def test_a_syntax_error_is_told_with_its_line(folder: Path) -> None:
    path = write(folder / "a.toml", "[run]\nrounds = 3\nseed\n")
    assert refuse(path=path) == [
        f"{path}: is not TOML: Expected '=' after a key in a key/value pair (at line 3, column 5)."
    ]


def test_a_configuration_survives_being_written_and_read() -> None:
    sets = ["problems.kind=file", "problems.path=a.jsonl", "policy.model=some/model", "search.temperature=0.7"]
    config = load_config(None, sets, {})
    assert from_json(to_json(config)) == config


def test_a_configuration_of_another_version_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"not of this version \(old: .*\): start a new run"):
        from_json('{"old": 1}')


def test_a_choice_that_is_no_more_is_as_if_it_was_not_made() -> None:
    kept = to_json(Config()).replace('"start": "last"', '"start": "auto"')
    assert "auto" in kept and from_json(kept) == Config()


def test_workers_of_a_pool_may_each_have_a_server() -> None:
    pool = ["run.runner=workers", "serve.url=http://here:4200/api", "policy.engine=server"]
    assert load_config(None, pool, {}).run.runner == "workers"


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["run.runner=workers"], "name it as serve.url"),
        (["learning.processes=2", "learning.objective=grpo", "learning.on_policy_steps=3"], "does so in one process"),
        (
            ["policy.engine=server", "policy.server=http://gpu:8001", "run.workers=1", "policy.dtype=float32"],
            "has its own",
        ),
    ],
)
def test_settings_that_cannot_go_together_are_refused(sets: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(None, sets, {})


def test_differences_are_listed_in_order() -> None:
    new = load_config(None, ["search.samples=32", "run.rounds=2", "policy.model=some/model"], {})
    assert differences(Config(), new) == [
        "run.rounds: 6 → 2",
        "run.workers: 2 → 1",
        "policy.model: scratch → some/model",
        "policy.threads: 1 → 0",
        "initialization.learning_rate: 0.0015 → 1e-05",
        "initialization.batch_tokens: 512 → 8192",
        "initialization.max_grad_norm: 0.5 → 1.0",
        "search.samples: 16 → 32",
        "learning.learning_rate: 0.002 → 1e-05",
        "learning.epochs: 3.0 → 2.0",
        "learning.batch_tokens: 512 → 8192",
        "learning.max_grad_norm: 0.5 → 1.0",
    ]
    assert differences(new, new) == []


def test_differences_between_kinds_of_problems_show_what_is_gone_and_new() -> None:
    new = load_config(None, ["problems.kind=file", "problems.path=a.jsonl", "initialization.file=b.jsonl"], {})
    assert differences(Config(), new)[:3] == [
        "problems.kind: countdown → file",
        "problems.numbers: 3 → –",
        "problems.max_value: 30 → –",
    ]
    assert 'initialization.file: "" → b.jsonl' in differences(Config(), new)
