"""The hash of a vocabulary, on hand-made tokenizers."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from srft.agent.models.vocabulary import vocabulary_hash, vocabulary_of
from srft.env.errors import InputError


def tokenizer(**entries):
    return Tokenizer(models.WordLevel(entries, unk_token="a"))


def test_the_hash_is_of_the_entries_alone():
    plain, split, more = tokenizer(a=0, b=1), tokenizer(b=1, a=0), tokenizer(a=0, b=1)
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    more.add_special_tokens(["<end>"])
    hashes = [vocabulary_hash(one) for one in (plain, split, more, tokenizer(a=1, b=0))]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_the_vocabulary_of_a_folder(tmp_path):
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(a=0, b=1)).save_pretrained(tmp_path)
    assert vocabulary_of(str(tmp_path)) == vocabulary_hash(tokenizer(a=0, b=1))
    with pytest.raises(InputError, match=r"^openai.tokenizer: .*nowhere: cannot be loaded .*tokenizer.json"):
        vocabulary_of(str(tmp_path / "nowhere"))
