"""Densities of single cells in 40 digits, written from the textbook."""

from collections.abc import Sequence

import mpmath as mp

mp.mp.dps = 40


def log_sigmoid(a: mp.mpf) -> mp.mpf:
    return -mp.log1p(mp.exp(-a))


def bernoulli(logit: float, x: float) -> mp.mpf:
    return log_sigmoid(mp.mpf(logit)) if x == 1 else log_sigmoid(-mp.mpf(logit))


def log_normaliser(logit: float) -> mp.mpf:
    """log of the integral of e^(a x) over [0, 1]."""
    a = mp.mpf(logit)
    return mp.log(mp.expm1(a) / a) if a != 0 else mp.mpf(0)


def continuous_bernoulli(logit: float, x: float) -> mp.mpf:
    return mp.mpf(logit) * mp.mpf(x) - log_normaliser(logit)


@mp.workdps(150)  # two terms cancel that are as large as the logit's square is small
def continuous_bernoulli_mean(logit: float) -> mp.mpf:
    a = mp.mpf(logit)
    return mp.exp(a) / mp.expm1(a) - 1 / a if a != 0 else mp.mpf("0.5")


@mp.workdps(150)
def continuous_bernoulli_variance(logit: float) -> mp.mpf:
    a = mp.mpf(logit)
    return 1 / a**2 - 1 / (4 * mp.sinh(a / 2) ** 2) if a != 0 else 1 / mp.mpf(12)


def normal(loc: mp.mpf, log_scale: mp.mpf, x: float) -> mp.mpf:
    return -(((mp.mpf(x) - loc) / mp.exp(log_scale)) ** 2) / 2 - log_scale - mp.log(2 * mp.pi) / 2


def poisson(log_rate: float, x: float) -> mp.mpf:
    return mp.mpf(x) * mp.mpf(log_rate) - mp.exp(mp.mpf(log_rate)) - mp.loggamma(mp.mpf(x) + 1)


def negative_binomial(log_mean: float, log_dispersion: float, x: float) -> mp.mpf:
    m, r, x = mp.exp(mp.mpf(log_mean)), mp.exp(mp.mpf(log_dispersion)), mp.mpf(x)
    choose = mp.loggamma(r + x) - mp.loggamma(r) - mp.loggamma(x + 1)
    return choose + r * mp.log(r / (r + m)) + x * mp.log(m / (r + m))


def categorical(logits: Sequence[float], x: float) -> mp.mpf:
    return mp.mpf(logits[int(x)]) - mp.log(mp.fsum(mp.exp(mp.mpf(one)) for one in logits))


def discretised_logistic(loc: float, scale: float, x: float, levels: int) -> mp.mpf:
    """Differences of the logistic distribution function, with enough digits for the largest cancellation."""
    loc, scale, x = mp.mpf(loc), mp.mpf(scale), mp.mpf(x)
    upper, lower = (x + 0.5 - loc) / scale, (x - 0.5 - loc) / scale
    if x == 0:
        return log_sigmoid(upper)
    if x == levels - 1:
        return log_sigmoid(-lower)
    # The difference is taken in the tail where both are small; with both near one it would cancel.
    if lower > 0:
        upper, lower = -lower, -upper
    return log_sigmoid(upper) + mp.log(-mp.expm1(log_sigmoid(lower) - log_sigmoid(upper)))
