"""What a user may give by mistake. Run apart, for tests check annotations at run time and would raise before us."""

import subprocess
import sys

SCRIPT = """
import torch
import jensen as jn
from jensen.errors import ConfigError, DataError
from jensen.inference import discrete, fit, mcmc, real, simplex
from jensen.inference.families import FullRank

target = jn.inference.Target(lambda p: -p["x"].square(), {"x": real()})
for make, message in (
    (lambda: real((3, 4)), "as in real(3, 4)"),
    (lambda: real(3.0), "positive integers"),
    (lambda: simplex((3,)), "a simplex needs"),
    (lambda: discrete(2.0), "at least one state"),
    (lambda: fit(target, FullRank), "a name or a posterior"),
    (lambda: fit(target, init=torch.zeros(1)), "init is a dict"),
    (lambda: mcmc.nuts(target, 10, init="here"), "got 'here'"),
):
    try:
        make()
    except (ConfigError, DataError) as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
assert mcmc.nuts(target, 4, 2, warmup=10, init=[[0.0], [1.0]])["x"].shape == (2, 4)
"""


def test_values_of_wrong_types_are_refused_in_words() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
