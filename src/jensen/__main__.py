"""``python -m jensen`` is the command ``jensen``."""

from jensen.cli import main

main()
