"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from jensen.errors import ConfigError

Data = Annotated[str, typer.Argument(help="A path, or a known name; see 'jensen data'.", metavar="DATA")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a Run.", metavar="RUN")]
Out = Annotated[Path, typer.Option("--out", help="Where to write: .npy, .npz or .csv.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0, max=2**32 - 1)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Leave the data on disk and read them by blocks; by default if they would take too much memory.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Column of a table that holds labels, by name or place (-1: last)."),
]
Log = Annotated[
    list[str] | None,
    typer.Option("--log", help="Write for another program, too: tensorboard, mlflow.", metavar="NAME"),
]


def column(target: str | None) -> str | int | None:
    """A column by name, or by place if it is a number."""
    if target is None:
        return None
    try:
        return int(target)
    except ValueError:
        return target


def pairs(settings: list[str]) -> dict[str, str]:
    """The options given as key=value.

    Raises:
        ConfigError: If one has no equals sign.

    Example:
        >>> pairs(["latent_dim=2"])
        {'latent_dim': '2'}
    """
    result: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set wants key=value, got '{setting}'")
        result[key.strip()] = value.strip()
    return result
