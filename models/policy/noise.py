"""Sampling noise that belongs to a request, not to a batch.

A request's draws are a function of its seed and the token's position alone, so
the same request gets the same noise in whatever batch, shard or process it runs.
SplitMix64 (Steele, Lea, Flood 2014) as a counter-based generator.
"""

import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def wrap(seed: int) -> int:
    """Any whole number as a signed 64-bit integer, as torch holds it."""
    return (seed + 2**63) % 2**64 - 2**63


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def uniform(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One draw in (0, 1) for each seed at its position. int64 (batch,), int64 (batch,) -> float64 (batch,)."""
    x = seeds + (positions + 1) * _GOLDEN  # int64 wraps around, as it should
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    x = x ^ _shift_right(x, 31)
    return (_shift_right(x, 12).double() + 0.5) * 2.0**-52  # 52 bits, so that adding a half is exact and never gives 1


def choose(logprobs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Sample by inverting the cumulative distribution. (batch, vocabulary), (batch,) -> (batch,)."""
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    targets = (draws * cumulative[:, -1]).unsqueeze(-1)  # the sum is 1 but for rounding
    tokens = torch.searchsorted(cumulative, targets).squeeze(-1)
    return tokens.clamp_(max=logprobs.shape[-1] - 1)
