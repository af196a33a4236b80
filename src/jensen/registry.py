"""Names for the members of a family, so that Python, a config and the command line say the same."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from jensen.errors import ConfigError, unknown

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A read-only mapping from names to members of one family; a wrong name is a clear error.

    Args:
        kind: What a member is, for messages, as in "prior".
        members: Names and what they stand for.

    Raises:
        ConfigError: On look-up of a name that isn't there; the message names the nearest.

    Example:
        >>> numbers = Registry("number", {"one": 1, "two": 2})
        >>> numbers["two"]
        2
    """

    def __init__(self, kind: str, members: Mapping[str, T]) -> None:
        self.kind = kind
        self._members = dict(members)

    def __getitem__(self, name: str) -> T:
        """The member of that name."""
        try:
            return self._members[name]
        except KeyError:
            raise ConfigError(unknown(self.kind, name, self._members)) from None

    def __contains__(self, name: object) -> bool:
        """Whether the family has a member of that name."""
        return name in self._members

    def get(self, name: str, default: Any = None) -> Any:
        """The member of that name, or the default."""
        return self._members.get(name, default)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._members)

    def __len__(self) -> int:
        """How many members there are."""
        return len(self._members)
