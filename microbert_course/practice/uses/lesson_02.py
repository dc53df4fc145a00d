"Uses of the exercises on WordPiece."

from collections.abc import Callable


def spell(answer: Callable, words: list[str], vocab: dict[str, int]) -> list:
    "How the answer spells each word."
    return [answer(word, vocab) for word in words]
