"""Random commands from templates: enough structure to be mostly valid, enough freedom to be wrong.

A template is a line with choices:

    {a|b}      one of these        [a|b]      one of these, or nothing
    (a b)*     once to three times <k>        a word from the vocabulary called k

`SET <k> <v> [NX|XX] [EX <i>|KEEPTTL]` yields SET s1 abc XX, SET h1 "" KEEPTTL, and so on.
"""

import re

_CLOSING = {"{": "}", "[": "]", "(": ")"}


def parse(template):
    """The template as a tree of ("word" | "slot" | "one" | "maybe" | "many", ...)."""
    tokens = re.findall(r"<\w+>|\)\*|[{}\[\]()|]|[^\s{}\[\]()|<>]+|>", template)
    tree, rest = _alternatives(tokens, 0, None)
    assert rest == len(tokens), f"unbalanced: {template}"
    return tree


def _alternatives(tokens, at, closing):
    branches, branch = [], []
    while at < len(tokens):
        token = tokens[at]
        if token == closing or (closing == ")" and token == ")*"):
            break
        at += 1
        if token == "|":
            branches.append(branch)
            branch = []
        elif token in _CLOSING:
            inner, at = _alternatives(tokens, at, _CLOSING[token])
            branch.append(({"{": "one", "[": "maybe", "(": "many"}[token], inner))
            at += 1
        elif token.startswith("<"):
            branch.append(("slot", token[1:-1]))
        else:
            branch.append(("word", token))
    return [*branches, branch], at


def expand(branches, rng, vocabulary):
    """One random list of words."""
    words = []
    for kind, value in rng.choice(branches):
        if kind == "word":
            words.append(value)
        elif kind == "slot":
            words.append(vocabulary[value](rng))
        elif kind == "one":
            words += expand(value, rng, vocabulary)
        elif kind == "maybe" and rng.random() < 0.4:
            words += expand(value, rng, vocabulary)
        elif kind == "many":
            for _ in range(rng.choice([1, 1, 2, 3])):
                words += expand(value, rng, vocabulary)
    return words
