import pytest

from jensen import errors
from jensen.errors import JensenError, unknown

CHILDREN = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("error", CHILDREN)
def test_every_error_is_one_of_ours_and_says_what_it_means(error: type[Exception]) -> None:
    assert issubclass(error, JensenError)
    assert error.__doc__
    with pytest.raises(JensenError, match="what to do"):
        raise error("what to do")


def test_input_errors_are_value_errors_too() -> None:
    for error in (
        errors.DataError,
        errors.ShapeError,
        errors.SupportError,
        errors.ConfigError,
        errors.RunError,
    ):
        assert issubclass(error, ValueError)
    assert issubclass(errors.FitError, RuntimeError)
    assert issubclass(errors.ShapeError, errors.DataError)
    assert issubclass(errors.SupportError, errors.DataError)


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    message = unknown("likelihood", "bernouli", ["normal", "bernoulli", "poisson"])
    assert message == (
        "unknown likelihood 'bernouli'; did you mean 'bernoulli'? There are: bernoulli, normal, poisson"
    )


def test_no_name_is_suggested_where_none_is_near() -> None:
    assert unknown("prior", "zzz", iter(["normal"])) == "unknown prior 'zzz'. There are: normal"
