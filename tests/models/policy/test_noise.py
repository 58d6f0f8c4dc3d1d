import torch
from scipy import stats

from models.policy.noise import choose, uniform, wrap

# The first outputs of SplitMix64 from seed 0, as its authors' C code prints them.
SPLITMIX64 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def draw(seeds: range | list[int], positions: range | list[int]) -> torch.Tensor:
    return uniform(torch.tensor(list(seeds)), torch.tensor(list(positions)))


def test_draws_are_those_of_splitmix64() -> None:
    assert draw([0, 0, 0], [0, 1, 2]).tolist() == [((value >> 12) + 0.5) / 2**52 for value in SPLITMIX64]


def test_draws_are_uniform_along_positions_and_along_seeds() -> None:
    for draws in (draw([7] * 20_000, range(20_000)), draw(range(20_000), [3] * 20_000)):
        counts = torch.histc(draws, bins=100, min=0.0, max=1.0)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
        assert draws.min() > 0 and draws.max() < 1


def test_neighbouring_seeds_and_positions_are_independent() -> None:
    seeds, positions = range(20_000), [5] * 20_000
    first, neighbour = draw(seeds, positions), draw([seed + 1 for seed in seeds], positions)
    later = draw(seeds, [6] * 20_000)
    for other in (neighbour, later):
        cells = torch.histc((first * 10).floor() * 10 + (other * 10).floor(), bins=100, min=0.0, max=100.0)
        assert stats.chisquare(cells.numpy()).pvalue > 1e-3
        assert abs(stats.pearsonr(first.numpy(), other.numpy()).statistic) < 0.03


def test_no_draw_of_one_seed_is_a_draw_of_its_neighbours() -> None:
    draws = torch.cat([draw([seed] * 256, range(256)) for seed in range(64)])
    assert len(draws.unique()) == 64 * 256


def test_a_seed_of_any_size_wraps_to_64_bits() -> None:
    assert [wrap(seed) for seed in (0, 7, 2**63 - 1, 2**63, 2**64 - 1, 2**64 + 7, -1)] == [
        0, 7, 2**63 - 1, -(2**63), -1, 7, -1,
    ]  # fmt: skip


def test_choice_follows_the_distribution_exactly() -> None:
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens = choose(shares.log().expand(1000, 4), draws)
    assert torch.bincount(tokens).tolist() == [100, 200, 300, 400]


def test_an_impossible_token_is_never_chosen() -> None:
    logprobs = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).log()
    draws = torch.tensor([2.0**-53, 0.25, 0.5, 0.500001, 1 - 2.0**-53], dtype=torch.float64)
    assert choose(logprobs.expand(5, 5), draws).tolist() == [1, 1, 1, 3, 3]


def test_sampled_tokens_follow_a_skewed_distribution() -> None:
    logprobs = torch.linspace(0, 4, 12).log_softmax(-1)
    tokens = choose(logprobs.expand(20_000, 12), draw(range(20_000), [0] * 20_000))
    counts = torch.bincount(tokens, minlength=12).double()
    assert stats.chisquare(counts.numpy(), 20_000 * logprobs.double().softmax(-1).numpy()).pvalue > 1e-3
