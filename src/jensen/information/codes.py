"""Codes that tell outcomes apart by yes/no questions, and what they cost in bits."""

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from types import MappingProxyType

from jensen.errors import ConfigError, DataError

Probabilities = Mapping[Hashable, float]
Tree = Hashable | tuple["Tree", "Tree"]

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class PrefixCode:
    """A word of zeros and ones for each symbol, none of which begins another: the answers to questions asked in turn.

    Attributes:
        words: Symbol to word. The number of questions is the length of the word.

    Raises:
        ConfigError: If a word holds anything else, or one begins another.

    Example:
        >>> code = PrefixCode({"blue": "1", "yellow": "01", "red": "001", "green": "000"})
        >>> code.encode(["yellow", "blue"]), code.decode("011")
        ('011', ['yellow', 'blue'])
    """

    words: Mapping[Hashable, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", MappingProxyType(dict(self.words)))
        if not self.words:
            raise ConfigError("a code needs at least one symbol")
        for symbol, word in self.words.items():
            if set(word) - {"0", "1"}:
                raise ConfigError(f"the word of {symbol!r} is {word!r}; it may hold nothing but 0 and 1")
        # In sorted order a word stands right before the first that it begins.
        for first, second in pairwise(sorted(self.words.values())):
            if second.startswith(first):
                raise ConfigError(
                    f"the word {first!r} begins the word {second!r}, so a reader can't tell them apart"
                )

    def lengths(self) -> dict[Hashable, int]:
        """Bits (questions) for each symbol."""
        return {symbol: len(word) for symbol, word in self.words.items()}

    def expected_length(self, p: Probabilities) -> float:
        """Expected bits (questions) for a symbol that is drawn with these probabilities.

        Args:
            p: Symbol to probability; symbols that are left out never come.

        Returns:
            Bits, at least the entropy of p in bits.

        Raises:
            DataError: If the probabilities are none, or a symbol that may come has no word.
        """
        for symbol, probability in _checked(p).items():
            if probability > 0 and symbol not in self.words:
                raise DataError(f"{symbol!r} has probability {probability:g} and no word")
        return sum(
            probability * len(self.words[symbol]) for symbol, probability in p.items() if probability > 0
        )

    def encode(self, message: Iterable[Hashable]) -> str:
        """The words of the symbols one after the other.

        Raises:
            DataError: If a symbol has no word.
        """
        try:
            return "".join(self.words[symbol] for symbol in message)
        except KeyError as error:
            raise DataError(f"the symbol {error.args[0]!r} has no word in this code") from None

    def decode(self, bits: str) -> list[Hashable]:
        """The symbols that the words stand for.

        Raises:
            DataError: If the bits aren't made of whole words, or the only word is empty.
        """
        if len(self.words) == 1:
            raise DataError("a code of one symbol has an empty word; nothing says how often it came")
        symbols = {word: symbol for symbol, word in self.words.items()}
        found: list[Hashable] = []
        start = 0
        for end in range(1, len(bits) + 1):
            if bits[start:end] in symbols:
                found.append(symbols[bits[start:end]])
                start = end
        if start < len(bits):
            raise DataError(f"{bits[start : start + 20]!r} isn't the beginning of a whole word")
        return found


def huffman_code(p: Probabilities) -> PrefixCode:
    r"""The code with the fewest expected bits: :math:`H(p) \le L < H(p) + 1`.

    Args:
        p: Symbol to probability; symbols that never come get no word.

    Returns:
        The code; a lone symbol has the empty word.

    Raises:
        DataError: If a number is negative or not finite, or they don't sum to one.

    Source: A method for the construction of minimum-redundancy codes, 1952,
    https://doi.org/10.1109/JRPROC.1952.273898.

    Example:
        >>> p = {"blue": 0.5, "red": 0.125, "green": 0.125, "yellow": 0.25}
        >>> huffman_code(p).expected_length(p)
        1.75
    """
    order = count()
    heap: list[tuple[float, int, Tree]] = [
        (w, next(order), symbol) for symbol, w in _checked(p).items() if w > 0
    ]
    heapq.heapify(heap)
    leaves = {place: symbol for _, place, symbol in heap}
    branches: dict[int, tuple[int, int]] = {}
    while len(heap) > 1:
        (a, first, _), (b, second, _) = heapq.heappop(heap), heapq.heappop(heap)
        place = next(order)
        branches[place] = (second, first)
        heapq.heappush(heap, (a + b, place, None))
    return PrefixCode(_words(heap[0][1], branches, leaves))


def question_code(tree: Tree) -> PrefixCode:
    """The code of a game of questions that is given as a tree.

    Args:
        tree: A pair (if yes, if no) of trees, or a symbol. Symbols can't be pairs themselves.

    Returns:
        The code, yes as 1 and no as 0.

    Raises:
        ConfigError: If a symbol is in the tree twice.

    Example:
        >>> game = question_code((("green", "blue"), ("red", "yellow")))  # green or blue? then: which?
        >>> game.lengths()
        {'green': 2, 'blue': 2, 'red': 2, 'yellow': 2}
    """
    words: dict[Hashable, str] = {}
    stack: list[tuple[Tree, str]] = [(tree, "")]
    while stack:
        node, word = stack.pop()
        if isinstance(node, tuple) and len(node) == 2:
            stack += [(node[1], word + "0"), (node[0], word + "1")]
            continue
        if node in words:
            raise ConfigError(f"the symbol {node!r} is in the tree twice")
        words[node] = word
    return PrefixCode(words)


def asked_in_order(symbols: Sequence[Hashable]) -> PrefixCode:
    """The code of the questions "is it the first?", "is it the second?", ... up to the last but one.

    Args:
        symbols: In the order of asking.

    Returns:
        The code, yes as 1 and no as 0.

    Raises:
        ConfigError: If there is no symbol, or one is there twice.

    Example:
        >>> p = {"blue": 0.5, "red": 0.125, "green": 0.125, "yellow": 0.25}
        >>> asked_in_order(["blue", "red", "yellow", "green"]).expected_length(p)
        1.875
        >>> asked_in_order(["blue", "yellow", "red", "green"]).expected_length(p)
        1.75
    """
    if len(set(symbols)) < len(symbols):
        raise ConfigError(f"a symbol is asked for twice: {list(symbols)}")
    words: dict[Hashable, str] = {symbol: "0" * place + "1" for place, symbol in enumerate(symbols)}
    if symbols:
        words[symbols[-1]] = "0" * (len(symbols) - 1)
    return PrefixCode(words)


def _words(
    root: int, branches: Mapping[int, tuple[int, int]], leaves: Mapping[int, Tree]
) -> dict[Hashable, str]:
    words: dict[Hashable, str] = {}
    stack = [(root, "")]
    while stack:
        place, word = stack.pop()
        if place in leaves:
            words[leaves[place]] = word
            continue
        yes, no = branches[place]
        stack += [(no, word + "0"), (yes, word + "1")]
    return words


def _checked(p: Probabilities) -> Probabilities:
    """Probabilities of symbols, held to be some.

    Raises:
        DataError: If a number is negative or not finite, or they don't sum to one.
    """
    for symbol, probability in p.items():
        if not 0 <= probability < float("inf"):
            raise DataError(f"the probability of {symbol!r} is {probability:g}; probabilities lie in 0..1")
    total = sum(p.values())
    if not p or abs(total - 1) > _TOLERANCE:
        raise DataError(f"the probabilities sum to {total:.6g} and not to 1; divide by the sum")
    return p


__all__ = ["PrefixCode", "asked_in_order", "huffman_code", "question_code"]
