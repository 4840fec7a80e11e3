"""How many tokens a text takes."""

import pytest

from srft.critic.judge.tokens import TokenCounter, estimate
from srft.env.errors import InputError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("word", 1),
        ("characteristically", 2),
        ("1234", 6),
        ("a" * 9000, 4),  # no word
        ("=" * 9000, 1),
        ("中文", 2),
        ("def f(xs):\n    return max(xs, default=0)\n", 15),
    ],
)
def test_an_estimate(text, tokens):
    assert estimate(text) == tokens


def test_a_tokenizer_counts_by_itself(qwen3_tokenizer):
    assert TokenCounter(str(qwen3_tokenizer)).of("def f(xs): return 0") == 7
    assert TokenCounter(None).of("def f(xs): return 0") == estimate("def f(xs): return 0")
    with pytest.raises(InputError, match="without it tokens are estimated"):
        TokenCounter("/nowhere/at/all").of("a")
