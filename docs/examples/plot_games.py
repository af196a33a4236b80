r"""
Question games: entropy, cross entropy and codes
================================================

Somebody holds one of four coins, blue, yellow, red or green, and you find out which by yes/no questions. How many do
you need? The answer is the entropy, and :mod:`jensen.information` knows the games' exact numbers.
"""

import matplotlib.pyplot as plt
import numpy as np

from jensen.information import (
    ArithmeticCode,
    asked_in_order,
    cross_entropy,
    entropy,
    huffman_code,
    kl,
    question_code,
)

# %%
# One coin
# --------
# A coin that lands heads nine times in ten surprises by 0.15 bits when it does and by 3.3 bits when it doesn't: half a
# bit on average. The average is largest, one bit, where the coin is fair.

p = np.linspace(0, 1, 201)
bits = entropy(np.stack([p, 1 - p], -1), unit="bits")

figure, axes = plt.subplots(figsize=(4.2, 2.8))
axes.plot(p, bits)
axes.plot([0.9], [float(entropy([0.9, 0.1], unit="bits"))], "o", color="C1")
axes.annotate("nine in ten", (0.9, 0.469), xytext=(-62, -4), textcoords="offset points", color="C1")
axes.set(xlabel="probability of heads", ylabel="bits", title="entropy of a coin")

# %%
# Three games
# -----------
# In the first all four colours are as likely, and halving is best: two questions. In the second blue is held half of
# the time. Asking "blue?", then "red?", then "yellow?" takes 1.875 questions; asking for yellow before red takes 1.75,
# which is the entropy, so no strategy is better. In the third the strategy of the first game is played in the second
# one: cross entropy, two questions, and what is lost to the best strategy is the divergence.

even = dict.fromkeys(["blue", "yellow", "red", "green"], 0.25)
uneven = {"blue": 0.5, "yellow": 0.25, "red": 0.125, "green": 0.125}
halving = question_code((("green", "blue"), ("red", "yellow")))
as_shown = asked_in_order(["blue", "red", "yellow", "green"])
best = asked_in_order(["blue", "yellow", "red", "green"])

games = {
    "1: halving, all alike": (halving, even),
    "2: blue, red, yellow": (as_shown, uneven),
    "2: blue, yellow, red": (best, uneven),
    "3: halving, mostly blue": (halving, uneven),
}
for name, (code, probabilities) in games.items():
    least = float(entropy(list(probabilities.values()), unit="bits"))
    print(f"{name:25} {code.expected_length(probabilities):.3f} questions, entropy {least:.3f}")

q, r = list(even.values()), list(uneven.values())
print(
    f"cross entropy {float(cross_entropy(r, q, unit='bits')):.3f} = 1.75 + KL {float(kl(r, q, unit='bits')):.3f}"
)

# %%
# A strategy is a code: the answers, yes as 1 and no as 0, are the word. Huffman's code is the best strategy for any
# probabilities.

print(dict(huffman_code(uneven).words))
print(best.encode(["blue", "green", "yellow"]), best.decode("1" + "000" + "01"))

# %%
# Less than a question each
# -------------------------
# A strategy for single coins can't do with less than one question. Coding whole messages can: an arithmetic code spends
# at most two bits more than the message's surprisal, whatever its length.

coin = {"heads": 0.9, "tails": 0.1}
rng = np.random.default_rng(0)
lengths = [1, 2, 5, 10, 20, 50, 100, 200, 500]
arithmetic, huffman = [], []
for n in lengths:
    messages = [[str(s) for s in rng.choice(list(coin), n, p=list(coin.values()))] for _ in range(100)]
    arithmetic.append(np.mean([ArithmeticCode(coin).length(m) for m in messages]) / n)
    huffman.append(np.mean([len(huffman_code(coin).encode(m)) for m in messages]) / n)

figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(lengths, huffman, marker="o", markersize=3, label="Huffman, coin by coin")
axes.plot(lengths, arithmetic, marker="o", markersize=3, label="arithmetic, the whole message")
axes.axhline(float(entropy([0.9, 0.1], unit="bits")), color="black", linewidth=1)
axes.annotate("entropy", (1, 0.469), xytext=(0, -10), textcoords="offset points")
axes.set(
    xscale="log", ylim=(0, None), xlabel="coins in a message", ylabel="bits a coin", title="length of codes"
)
axes.legend()
