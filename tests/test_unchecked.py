"""What users see without the shape checks that the tests turn on."""

import subprocess
import sys


def test_an_array_is_no_dataset() -> None:
    code = "import numpy, jensen.runs as runs; runs.fit(numpy.ones((4, 2)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "fitting needs a Dataset, got ndarray; make one of an array by jensen.data.from_array" in done.stderr
    )


def test_default_inference_does_not_load_the_compiler() -> None:
    """It takes longer than the fit."""
    code = (
        "import sys; from jensen.inference import Target, fit, real;"
        "fit(Target(lambda p: -0.5 * (p['x'] - 3) ** 2 - 0.5 * p['y'] ** 2, {'x': real(), 'y': real()}));"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_diagnostics_take_arrays() -> None:
    code = (
        "import numpy; from jensen import diagnostics; x = numpy.random.default_rng(0).normal(size=(4, 100, 2));"
        "assert diagnostics.r_hat(x).shape == diagnostics.ess_bulk(x).shape == (2,); diagnostics.r_hat(x[0, :, 0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "got draws of shape (100,); diagnostics compare chains, give (chains, draws, ...)" in done.stderr
