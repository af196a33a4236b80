"""The command ``jensen``: thin, every command a call of the same functions that Python users call."""

import sys

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""


def main() -> None:
    """Runs the command; exit code 0 done, 2 the user's input was at fault, 1 anything else."""
    import typer

    from jensen.cli.app import app
    from jensen.errors import JensenError

    try:
        code = app(standalone_mode=False) or 0
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except JensenError as error:
        print(f"jensen: {error}", file=sys.stderr)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        print("jensen: interrupted", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # Errors of usage; typer carries its own copy of click, whose classes have no public name.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        print(f"jensen: {message()}", file=sys.stderr)
        sys.exit(2)
