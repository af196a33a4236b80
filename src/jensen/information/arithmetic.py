"""Arithmetic coding in exact arithmetic: a whole message as one binary fraction."""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction
from itertools import accumulate
from math import lcm

from jensen.errors import ConfigError, DataError
from jensen.information.codes import _checked


class ArithmeticCode:
    r"""A code for whole messages that costs at most two bits more than their surprisal.

    A message has an interval of the width of its probability. Its code is the shortest string of bits all
    continuations of which lie within, so that what follows can't change the message. With n independent symbols
    the expected length lies between n H(p) and n H(p) + 2 bits.

    The numbers are integers of any length, so nothing is rounded; time grows with the square of the message's
    length. It is for messages of some thousand symbols and for exact lengths.

    Args:
        p: Symbol to probability. They are taken as they are and divided by their sum.

    Raises:
        DataError: If a number is negative or not finite, or they don't sum to one.

    Source: Arithmetic coding for data compression, 1987, https://doi.org/10.1145/214762.214771.

    Example:
        >>> code = ArithmeticCode({"heads": 0.9, "tails": 0.1})
        >>> bits = code.encode(["heads"] * 20)
        >>> len(bits), code.decode(bits, 20) == ["heads"] * 20
        (4, True)
    """

    def __init__(self, p: Mapping[Hashable, float]) -> None:
        exact = {symbol: Fraction(w) for symbol, w in _checked(p).items() if w > 0}
        unit = lcm(*(w.denominator for w in exact.values()))
        self._symbols = list(exact)
        self._weights = [int(w * unit) for w in exact.values()]
        self._starts = [0, *accumulate(self._weights)]
        self._places = {symbol: place for place, symbol in enumerate(self._symbols)}

    def encode(self, message: Iterable[Hashable]) -> str:
        """The shortest code of a message.

        Args:
            message: Symbols.

        Returns:
            Zeros and ones; the empty string for a message that was certain.

        Raises:
            DataError: If a symbol has no probability.
        """
        low, width, whole = 0, 1, 1
        total = self._starts[-1]
        for symbol in message:
            if symbol not in self._places:
                raise DataError(f"the symbol {symbol!r} has no probability above 0 in this code")
            place = self._places[symbol]
            low = low * total + width * self._starts[place]
            width *= self._weights[place]
            whole *= total
        # The fewest bits whose unit fits into the width; where it doesn't fit by its place, one more does.
        bits = max((whole // width).bit_length() - 1, 0)
        while True:
            code = -(-(low << bits) // whole)
            if (code + 1) * whole <= (low + width) << bits:
                return format(code, f"0{bits}b") if bits else ""
            bits += 1

    def decode(self, bits: str, n: int) -> list[Hashable]:
        """The first n symbols of the message that was encoded.

        Args:
            bits: What ``encode`` returned; more bits may follow.
            n: How many symbols.

        Returns:
            The symbols.

        Raises:
            ConfigError: If n is negative.
            DataError: If the bits aren't zeros and ones.
        """
        if n < 0:
            raise ConfigError(f"the number of symbols can't be negative; got n={n}")
        if set(bits) - {"0", "1"}:
            raise DataError("the code holds something else than 0 and 1")
        value, whole = int(bits or "0", 2), 1 << len(bits)
        total = self._starts[-1]
        message: list[Hashable] = []
        for _ in range(n):
            place = bisect_right(self._starts, value * total // whole) - 1
            message.append(self._symbols[place])
            value = value * total - self._starts[place] * whole
            whole *= self._weights[place]
        return message

    def length(self, message: Iterable[Hashable]) -> int:
        """Bits of a message's code.

        Raises:
            DataError: If a symbol has no probability.
        """
        return len(self.encode(message))
