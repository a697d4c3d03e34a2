"""Count words in many files: each file by itself, then the counts together, as a tree.

    graphray run examples/word_count.py
    graphray run examples/word_count.py --set files=64 --set mb=100 --set top=3

The text is made up, the same each time, with words that are as common as Zipf's law has it. It is written when the
pipeline is made, unless it is there from another time; counting it is what the graph does.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator

import graphray as gr

WORD = re.compile(r"[a-z]+")

SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstvz" for vowel in "aeiou"]


@gr.task
def count(path: str) -> Counter[str]:
    """How often each word occurs in a file, capitals or not."""
    with open(path, encoding="utf-8") as lines:
        return Counter(word for line in lines for word in WORD.findall(line.lower()))


def together(counts: list[Counter[str]]) -> Counter[str]:
    """Several counts as one."""
    words: Counter[str] = Counter()
    for each in counts:
        words.update(each)
    return words


@gr.task
def most_common(words: Counter[str], top: int) -> list[tuple[str, int]]:
    """The most common words with their counts; of equally common ones those that come first in the alphabet."""
    return sorted(words.items(), key=lambda item: (-item[1], item[0]))[:top]


def pipeline(files: int = 16, mb: float = 8.0, top: int = 10, dir: str = "") -> gr.Graph:
    """The counting as a graph, with the outputs `top` (the most common words) and `total` (how many words there are).

    Args:
        files: number of text files.
        mb: their size, together, in megabytes.
        top: how many words to list.
        dir: where the files are written, and looked for; a temporary directory by default.
    """
    directory = write_texts(dir or tempfile.gettempdir(), files, int(mb * 1e6))
    words = gr.combine(together, gr.map(count, gr.glob(os.path.join(directory, "*.txt"))))
    return gr.Graph(top=most_common(words, top), total=gr.call(Counter.total, words))


def write_texts(directory: str, files: int, size: int) -> str:
    """Make text files of `size` bytes together, where they are not there yet; give their directory."""
    if files < 1 or size < 0:
        raise ValueError(f"there must be a file or more, of some size, not {files} files of {size} bytes")
    directory = os.path.join(directory, f"word_count-{files}-files-{size}-bytes")
    os.makedirs(directory, exist_ok=True)
    for i in range(files):
        path = os.path.join(directory, f"{i:05}.txt")
        if not os.path.exists(path):
            unfinished = f"{path}.{os.getpid()}"
            with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(text(i, size // files))
            os.replace(unfinished, path)  # at once, so that a file which is there is complete
    return directory


def text(seed: int, size: int) -> Iterator[str]:
    """Lines of about `size` bytes together."""
    words = vocabulary()
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    rng = random.Random(seed)
    while size > 0:
        line = " ".join(rng.choices(words, cum_weights=weights, k=12)).capitalize() + ".\n"
        size -= len(line)
        yield line


def vocabulary() -> list[str]:
    """Made-up words of one or two syllables, the most common first."""
    longer = [first + second for first, second in itertools.product(SYLLABLES, repeat=2)]
    rng = random.Random(0)
    return rng.sample(SYLLABLES, len(SYLLABLES)) + rng.sample(longer, len(longer))


if __name__ == "__main__":
    result = pipeline().compute(executor="loky")
    for word, times in result["top"]:
        print(f"{times:10,} {word}")
    print(f"{result['total']:10,} words")
