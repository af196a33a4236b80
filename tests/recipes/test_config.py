import pytest

from jensen.errors import ConfigError
from jensen.recipes import RECIPES, VAEConfig
from jensen.recipes.config import parse


def test_every_option_takes_text() -> None:
    text = {
        "latent_dim": "8",
        "components": "3",
        "scale": "0.5",
        "hidden": "20, 10",
        "channels": "4",
        "dropout": "0.25",
        "beta": "2",
        "epochs": "7",
        "learning_rate": "1e-4",
        "decay": "false",
        "guard": "True",
        "clip_norm": "5",
        "averaging": "0.9",
        "patience": "3",
    }
    config = parse({}, text)
    assert {key: getattr(config, key) for key in text} == {
        "latent_dim": 8,
        "components": 3,
        "scale": 0.5,
        "hidden": (20, 10),
        "channels": (4,),
        "dropout": 0.25,
        "beta": 2.0,
        "epochs": 7,
        "learning_rate": 1e-4,
        "decay": False,
        "guard": True,
        "clip_norm": 5.0,
        "averaging": 0.9,
        "patience": 3,
    }


@pytest.mark.parametrize("key", ["epochs", "clip_norm", "averaging", "patience"])
@pytest.mark.parametrize("none", ["none", "None", None])
def test_none(key: str, none: str | None) -> None:
    assert getattr(parse({key: 1e-3 if key != "epochs" else 5}, {key: none}), key) is None


@pytest.mark.parametrize(("given", "widths"), [("", ()), (400, (400,)), ([3, 2], (3, 2)), ((), ())])
def test_widths(given, widths: tuple[int, ...]) -> None:
    assert parse({}, {"hidden": given}).hidden == widths


@pytest.mark.parametrize("scale", ["learned", "per-dimension", "network"])
def test_scale_by_name(scale: str) -> None:
    assert parse({}, {"scale": scale}).scale == scale


def test_the_users_options_go_over_the_defaults() -> None:
    config = parse({"beta": 4.0, "hidden": ()}, {"beta": 1})
    assert (config.beta, config.hidden) == (1.0, ())


@pytest.mark.parametrize(
    ("key", "nearest"), [("latent_dims", "latent_dim"), ("lr_rate", "learning_rate"), ("epoch", "epochs")]
)
def test_unknown_option_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option '{key}'; did you mean '{nearest}'") as caught:
        parse({}, {key: 1})
    assert all(name in str(caught.value) for name in VAEConfig.model_fields)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prior", "norml", "unknown prior 'norml'; did you mean 'normal'"),
        ("posterior", "full", "unknown posterior 'full'; did you mean 'full-normal'"),
        ("likelihood", "bernouli", "unknown likelihood 'bernouli'; did you mean 'bernoulli'"),
        ("network", "cnn", "unknown network 'cnn'; did you mean 'conv'"),
        ("activation", "reluu", "unknown activation 'reluu'; did you mean 'relu'"),
        ("bound", "iwea", "unknown bound 'iwea'; did you mean 'iwae'"),
        ("gradient", "path", "unknown gradient 'path'; did you mean 'pathwise'"),
        ("latent_dim", "0", "option latent_dim: .*greater than 0, got '0'"),
        ("latent_dim", "two", "option latent_dim: .*integer.*got 'two'"),
        ("latent_dim", 1.5, "option latent_dim: .*integer.*got 1.5"),
        ("dropout", 1, "option dropout: .*less than 1, got 1"),
        ("learning_rate", float("nan"), "option learning_rate: .*finite number, got nan"),
        ("clip_norm", "inf", "option clip_norm: .*finite number, got .inf"),
        ("hidden", "20,x", "option hidden: .*integer.*got 'x'"),
        ("hidden", "20,-3", "option hidden: .*greater than 0.*got '-3'"),
        ("decay", "maybe", "option decay: .*boolean.*got 'maybe'"),
        ("scale", "lerned", "option scale: .*'learned', 'per-dimension' or 'network'.*got 'lerned'"),
        ("epochs", 0, "option epochs: .*greater than 0, got 0"),
    ],
)
def test_wrong_values_say_what_was_wanted(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse({}, {key: value})
    assert "\n" not in str(caught.value)


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown model 'beta-vea'; did you mean 'beta-vae'"):
        RECIPES["beta-vea"]


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_describe_themselves(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.title
    assert "https://" in recipe.source
    config = recipe.config({})
    for key, value in recipe.defaults.items():
        assert getattr(config, key) == value
    assert recipe.config(config.model_dump()) == config
    assert recipe.config(config.model_dump(mode="json")) == config
    assert all(field.description for field in VAEConfig.model_fields.values())
