"""Recognises context overflow: the one place that knows the words of each server for it.

    is_overflow("This model's maximum context length is 4096 tokens, you requested 5000.", status=400)    # True
    is_overflow("Rate limit reached: 40000 input tokens per minute", status=429)                          # False

The client of agent and judge asks here, and so does the process that serves with vLLM. There are some forty wordings,
and new ones every month, so most are read by their sense: a sentence that names the prompt, its size, and a limit that
is passed. Where a server names nothing at all (`names_something_else`), `openai.py` goes by the prompt's size.
"""

from __future__ import annotations

import re

_FLAGS = re.IGNORECASE | re.DOTALL

# Phrases and codes that need no sentence around them.
_KNOWN = re.compile(
    r"context[\s_-]*(?:length|window|size|limit|budget|capacity)"  # OpenAI, vLLM, SGLang, llama.cpp, MiniMax, LiteLLM
    r"|max(?:imum)?[\s_-]*context\b|\bn_ctx\b|\bmax_(?:seq|model)_len\b|\bsession_len\b"
    r"|\bcontext\b.{0,30}\b(?:overflow|exceed|is full)|\bexceed\w*\b.{0,30}\bcontext\b"
    r"|(?:prompt|input|context|messages?|request|payload)[\s_](?:is[\s_])?too[\s_](?:long|large|big)|too_many_tokens"
    r"|tokens?_limit_(?:reached|exceeded)|(?:size|length|token) limit exceeded|exceed\w*\b.{0,20}\btoken limit"
    r"|too many (?:total |input |prompt |message )*(?:tokens|text bytes|characters)"  # Cohere, Bedrock
    r"|(?:request entity|content|payload|body) too large|(?:payload|body) (?:size )?exceeds"
    r"|max_tokens must be at least 1, got -"  # vLLM, when the prompt alone fills the context
    r"|expected maxLength: \d+, actual: \d+"  # Bedrock
    r"|\d{3,} tokens? ?> ?\d{3,}"  # Anthropic
    r"|\b(?:reduce|shorten|trim|truncate|decrease)\b[^.;]{0,40}\b(?:prompt|inputs?|messages|conversation|context)\b"
    r"|\b(?:shorter|smaller) (?:prompt|input|messages?|context|conversation)\b"
    r"|\bmax(?:imum)? length (?:reached|exceeded)"
    "|超长|过长|(?:长度|上下文|token).{0,12}(?:超过|超出|上限)|(?:超过|超出).{0,12}(?:长度|上下文|token)",
    _FLAGS,
)

# A sentence about the prompt, its size, and a limit that is passed; of a bare "request" more than a limit must be said.
_PROMPT = re.compile(
    r"\b(?:prompts?|inputs?|contexts?|conversation|messages?|history|sequences?|query|text|tokens?)\b", _FLAGS
)
_REQUEST = re.compile(r"\brequest(?:s|ed|'s)?\b", _FLAGS)
_LENGTH = re.compile(r"\b(?:tokens?|length|len|size|characters|chars)\b", _FLAGS)
_LIMIT = re.compile(r"\b(?:limit|long|max(?:imum)?|capacity|exceed\w*)\b", _FLAGS)
_PASSED = re.compile(
    r"\b(?:exceed\w*|surpass\w*|over|above|beyond|reached|at most|up to|no more than|less than|overflow\w*|range of"
    r"|(?:more|longer|greater|larger|bigger) than|limit (?:is|of) \d{3,}|max(?:imum)?\b.{0,50}\d{3,}|only \d{3,})\b"
    r"|[<>]=?",
    _FLAGS,
)
_TOO_LONG = re.compile(r"\btoo (?:long|large|big|many tokens)\b|\b(?:does(?: not|n't)|don't) fit\b", _FLAGS)
_REPLY_TOKENS = re.compile(r"\b(?:output|completion|generated|new|response) tokens?\b", _FLAGS)

# Limits that waiting lifts, and the request that is too large for one of them at any time.
_RATE = re.compile(r"rate.?limit|(?:per|a)[\s_-]?(?:minute|min|day|hour|second)\b|quota|\b[TR]P[MD]\b", _FLAGS)
_TOO_LARGE_FOR_THE_RATE = re.compile(r"request too large for|must be reduced", _FLAGS)

# Limits and faults of something else, in words that look alike.
_OTHER_LIMIT = re.compile(
    r"\b(?:unknown|unrecogni[sz]ed|unexpected|unsupported) (?:request )?"
    r"(?:argument|parameter|field|key|option|property)"
    r"|extra[_ ](?:forbidden|inputs)|not permitted|input should be|stop sequence"
    r"|messages?\[\d+\]\.(?!content)|\btools?\[\d|\bnumber of (?:tools|functions|images|messages)|\btool limit"
    r"|\bimages?\b(?!.{0,30}\btext\b)",
    _FLAGS,
)

_SOMETHING_ELSE = re.compile(
    # settings and parts of the request
    r"temperature|top_[pk]|max_\w*tokens|penalty|\bseed\b|\bstop\b|logprobs|token_ids|schema|response_format|grammar|guided"
    r"|structured|stream|\bjson\b|\bpars(?:e|ing)\b|tool|function|\brole|reasoning|thinking|assistant|system message"
    r"|user message|alternat|last message|prefill|template|image|temporarily"
    # what is refused whatever its size
    r"|content[_ ](?:filter|policy|management)|safety|moderat|flagged|harmful|sensitive|risk|inappropriate|policy"
    r"|api.?key|auth|billing|credit|balance|quota|rate.?limit|deprecated|region|permission|\bmodel\b.*\bnot\b"
    # what is missing or not known
    r"|unknown|unrecogni[sz]ed|unexpected|unsupported|not supported|missing|required|field|must be an? |should be an? ",
    _FLAGS,
)


def is_overflow(said: str, *, status: int | None = None) -> bool:
    """Whether a server's error says that the prompt is too long. status: of the HTTP answer, where there is one."""
    if status == 413:
        return True
    if status in {401, 402, 403, 404}:
        return False
    said = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", said)  # of codes like PromptTooLong
    if _RATE.search(said):
        return bool(_TOO_LARGE_FOR_THE_RATE.search(said))
    if _OTHER_LIMIT.search(said):
        return False
    return bool(_KNOWN.search(said)) or any(map(_says_too_long, re.split(r"[.!?\n](?=\s|$)", said)))


def _says_too_long(sentence: str) -> bool:
    sentence = _REPLY_TOKENS.sub("", sentence)
    if not (_PROMPT.search(sentence) or _REQUEST.search(sentence)):
        return False
    sized = _LENGTH.search(sentence) or (_PROMPT.search(sentence) and _LIMIT.search(sentence))
    return bool(_TOO_LONG.search(sentence) or (sized and _PASSED.search(sentence)))


def names_something_else(said: str) -> bool:
    """Whether an error that is no known overflow says what is wrong: a setting, a tool, a key, a filter.

    >>> names_something_else("temperature must be at most 2"), names_something_else("Bad Request")
    (True, False)
    """
    return bool(_SOMETHING_ELSE.search(said) or _OTHER_LIMIT.search(said))
