"""What users see without the shape checks that the tests turn on."""

import subprocess
import sys


def assert_refused(code: str, wanted: list[str]) -> None:
    """Each line that the code prints, in a process of its own, holds what is wanted there."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line, text in zip(done.stdout.splitlines(), wanted, strict=True):
        assert text in line


def test_an_array_is_no_dataset() -> None:
    code = "import numpy, jensen.runs as runs; runs.fit(numpy.ones((4, 2)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "fitting needs a Dataset, got ndarray; make one of an array by jensen.data.from_array" in done.stderr
    )


def test_default_inference_does_not_load_the_compiler() -> None:
    """It, and its library for symbols, take longer than the fit."""
    code = (
        "import sys; from jensen.inference import Target, fit, interval, positive, real;"
        "fit(Target(lambda p: -0.5 * (p['x'] - 3) ** 2 - 0.5 * p['y'] ** 2 - p['s'], "
        "{'x': real(), 'y': interval(-5, 5), 's': positive()})).sample(10);"
        "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
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


def test_a_network_and_scales_of_another_type_are_refused() -> None:
    code = (
        "import torch, jensen.weights as w; from torch import nn; from jensen.errors import ConfigError\n"
        "x = torch.randn(9, 2); calls = [(torch.relu, {}), (nn.Linear(2, 1), {'noise_scale': [1]}),"
        "(nn.Linear(2, 1), {'prior_scale': [1]}), (nn.Linear(2, 1), {'prior_scale': {'weight': None, 'bias': 1}}),"
        "(nn.Linear(2, 1), {'prior': 'scale-mixture', 'mixture_weight': 'half'}),"
        "(nn.Linear(2, 1), {'prior': 'scale-mixture', 'scale_ratio': None})]\n"
        "for network, options in calls:\n"
        "    try: w.fit(network, x, x[:, 0], method='map', epochs=1, **options)\n"
        "    except ConfigError as error: print(error)\n"
    )
    wanted = [
        "wanted a torch.nn.Module, got builtin_function_or_method",
        "or 'network'; got [1]",
        "above 0; got [1] for weight",
        "above 0; got None for weight",
        "got 'half' and 0.0025",
        "got 0.5 and None",
    ]
    assert_refused(code, wanted)


def test_parameters_of_another_type_are_refused() -> None:
    code = (
        "import numpy as np, jensen as jn; from jensen.errors import ConfigError\n"
        "x = np.random.default_rng(0).normal(size=(9, 2)); fitted = jn.VAE(1, epochs=1).fit(x)\n"
        "calls = [lambda: jn.VAE(options=[('hidden', 3)]).fit(x), lambda: jn.VAE(options='hidden=3').fit(x),"
        "lambda: jn.VAE(validation_fraction='0.1').fit(x), lambda: jn.VAE(validation_fraction=None).fit(x),"
        "lambda: fitted.sample(2.5), lambda: jn.PPCA(1).fit(x).sample('3'),"
        "lambda: fitted.set_params(evidence_samples=2.5).score(x)]\n"
        "for call in calls:\n"
        "    try: call()\n"
        "    except ConfigError as error: print(error)\n"
    )
    wanted = [
        "got [('hidden', 3)]",
        "options is a dict from names to values",
        "validation_fraction is a number, as in 0.1; got '0.1'",
        "got None",
        "n_samples is a whole number of at least 1, got 2.5",
        "got '3'",
        "a whole number; got samples=2.5",
    ]
    assert_refused(code, wanted)


def test_a_noise_scale_of_numpy_is_kept_on_disk() -> None:
    code = (
        "import numpy, tempfile, torch, jensen.weights as w; x = torch.randn(9, 2); net = torch.nn.Linear(2, 1)\n"
        "found = w.fit(net, x, x[:, 0], method='map', epochs=1, noise_scale=numpy.float32(0.5))\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    found.save(folder); print(w.load(folder, net).likelihood.noise_scale)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0.5\n", done.stderr


def test_what_is_no_path_is_refused() -> None:
    code = (
        "import numpy, jensen as jn; from jensen.errors import DataError\n"
        "for wrong in (None, numpy.ones((4, 2)), ''):\n"
        "    try: jn.data.load(wrong)\n"
        "    except DataError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line, got in zip(done.stdout.splitlines(), ("NoneType", "ndarray", "''"), strict=True):
        assert f"a known name or a path is wanted, got {got}. Make a data set of an array by" in line


def test_a_model_says_what_it_takes() -> None:
    code = (
        "import torch, jensen as jn; from jensen.errors import DataError\n"
        "from jensen import nets\n"
        "model = jn.models.LatentVariableModel(jn.priors.StandardNormal(2),"
        "jn.posteriors.DiagonalNormal(nets.MLP((6,), (2, 2))),"
        "jn.likelihoods.Bernoulli(nets.MLP((2,), (1, 6)), (6,)))\n"
        "x = torch.ones(5, 6)\n"
        "calls = [lambda: model.terms(x, samples=1.5), lambda: model.terms(x.numpy()), lambda: model.encode([[1.0]]),"
        "lambda: model.sample(2.5), lambda: model.sample(-1), lambda: jn.evaluation.evaluate(model, x.numpy(), 3)]\n"
        "for call in calls:\n"
        "    try: call()\n"
        "    except DataError as error: print(error)\n"
    )
    wanted = ["got 1.5", "got ndarray; use torch.as_tensor", "got list", "got 2.5", "got -1", "got ndarray"]
    assert_refused(code, wanted)
