"""The client of OpenAI-compatible servers, against a chat API over a real socket."""

import threading

import pytest
from loguru import logger
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from srft.agent.models.contract import ContextOverflow, ReasoningWanted
from srft.agent.models.openai import OpenAIConfig, OpenAIModel
from srft.agent.models.vocabulary import vocabulary_hash
from srft.agent.records import Usage
from srft.env.errors import InputError, ModelError

HELLO = [{"role": "user", "content": "Hello."}]


@pytest.fixture
def model(chat_server):
    def model(**settings):
        given = {"max_retries": 2, "timeout_s": 20, **settings}
        return OpenAIModel(OpenAIConfig(base_url=chat_server.url, name="tiny", **given))

    return model


@pytest.fixture
def logged():
    """The messages that are logged meanwhile."""
    messages = []
    handler = logger.add(lambda message: messages.append(message.record["message"]))
    yield messages
    logger.remove(handler)


def failure(model):
    with pytest.raises(ModelError) as error:
        model.reply(HELLO)
    return str(error.value)


def test_a_reply_of_vllm(chat_server, completion, model):
    chat_server.answers = [
        (
            200,
            completion(
                "  kept \n\n",
                message={"reasoning_content": "hm"},
                choice={
                    "token_ids": [7, 8],
                    "logprobs": {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}]},
                },
                prompt_token_ids=[1, 2, 3],
                usage={
                    "prompt_tokens": 30,
                    "completion_tokens": 2,
                    "total_tokens": 32,
                    "prompt_tokens_details": {"cached_tokens": 20},
                },
            ),
        )
    ]
    reply = model(
        temperature=0.5,
        extra_body={"top_k": 3},
        usd_per_million_prompt=10.0,
        usd_per_million_completion=100.0,
        usd_per_million_cached=1.0,
    ).reply(HELLO)
    assert (reply.content, reply.reasoning, reply.finish_reason) == ("  kept \n\n", "hm", "stop")
    assert (reply.prompt_token_ids, reply.token_ids, reply.logprobs) == ((1, 2, 3), (7, 8), (-0.5, -1.0))
    assert reply.usage == Usage(prompt_tokens=30, completion_tokens=2, cached_tokens=20, cost_usd=320 / 1e6)
    assert chat_server.requests == [
        {
            "model": "tiny",
            "messages": HELLO,
            "temperature": 0.5,
            "logprobs": True,
            "top_k": 3,
            "return_token_ids": True,
        }
    ]


def test_sampled_ids_are_noted_with_their_vocabulary(chat_server, completion, model, tmp_path):
    words = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path)
    chat_server.answers = [(200, completion("a", choice={"token_ids": [0]})), (200, completion("a"))]
    asked = model(tokenizer=str(tmp_path))
    assert [asked.reply(HELLO).vocabulary for _ in range(2)] == [vocabulary_hash(words), None]


def test_native_calls_and_a_reply_without_text(chat_server, completion, model):
    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command":  "ls"}'}}
    chat_server.answers = [(200, completion(None, message={"tool_calls": [call], "reasoning": "hm"}))]
    tools = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
    reply = model().reply(HELLO, tools=tools)
    assert (reply.content, reply.reasoning, reply.tool_calls) == ("", "hm", (call,))
    assert chat_server.requests[0]["tools"] == tools


def test_half_a_surrogate_pair_does_not_reach_the_files(chat_server, completion, model):
    chat_server.answers = [(200, completion("a\ud83db"))]
    assert model().reply(HELLO).content == "a\ufffdb"


def test_each_episode_has_its_seed(chat_server, completion, model):
    chat_server.answers = [(200, completion("a"))] * 4
    shared = model()
    episode = shared.for_episode("t", 0, 5)
    episode.reply(HELLO)
    episode.reply(HELLO)
    shared.for_episode("t", 0, None).reply(HELLO)
    shared.reply(HELLO)
    assert [request.get("seed") for request in chat_server.requests] == [5, 1_000_008, None, None]
    assert shared.for_episode("t", 0, 5).sampling == {"seed": 5}


@pytest.mark.parametrize(
    "refused",
    [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        (503, {"error": {"message": "loading"}}, {"Retry-After": "0"}),
        (0, None),
    ],
)
def test_what_passes_is_tried_again(chat_server, completion, model, refused):
    chat_server.answers = [refused, (200, completion("a"))]
    assert model().reply(HELLO).content == "a"
    assert len(chat_server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (401, {"error": {"message": "Bad key"}}),
            "the server refuses a request without a key (Bad key); "
            "set api_key_env to the variable that holds a valid one",
        ),
        (
            (404, {"object": "error", "message": "The model `tiny` does not exist."}),
            "no model of that name, or no chat API there (The model `tiny` does not exist.); "
            "correct the name or the URL",
        ),
        (
            (400, {"error": {"message": "temperature must be at most 2", "code": "bad"}}),
            "the server refuses the request (400: temperature must be at most 2 [bad]); "
            "correct the sampling settings or extra_body",
        ),
    ],
)
def test_what_does_not_pass_is_said_at_once(chat_server, model, answer, message):
    chat_server.answers = [answer]
    assert failure(model()) == f"model tiny at {chat_server.url}: {message}"
    assert len(chat_server.requests) == 1


def test_a_server_that_keeps_failing(chat_server, model):
    chat_server.answers = [(500, {"error": {"message": "out of memory"}}, {"Retry-After": "0"})] * 3
    said = failure(model())
    assert said.startswith(
        f"model tiny at {chat_server.url}: the server fails (500: out of memory) after 2 retries in "
    )
    assert said.endswith(" s; look at its log")
    chat_server.answers = [(429, {"error": {"message": "slow"}}, {"Retry-After": "0"})] * 3
    said = failure(model())
    assert "the server still says that it is asked too often after 2 retries in " in said
    assert said.endswith(" s (slow); use fewer workers or raise retry_s")


def test_a_server_that_is_away_for_a_while(chat_server, completion, model):
    """Every failure that may pass is tried again, as often as the time allows."""
    failed = {"code": 502, "message": "upstream died"}
    chat_server.answers = [
        (0, None),
        (200, completion("", choice={"error": failed, "finish_reason": "error"})),
        (503, {"error": {"message": "loading"}}, {"Retry-After": "0"}),
        (429, b"slow down", {"Retry-After": "0"}),
        (504, b"<html>Bad gateway</html>", {"Retry-After": "0", "Content-Type": "text/html"}),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, {"Retry-After": "0"}),
        (200, completion("a")),
    ]
    assert model(max_retries=None).reply(HELLO).content == "a"
    assert len(chat_server.requests) == 7


@pytest.mark.parametrize(
    "answer",
    [
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
        (429, {"error": {"message": "slow"}}, {"Retry-After": "4000"}),
        (501, {"error": {"message": "not implemented"}}),
        (200, {"error": {"message": "no key", "code": 401}}),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "field required"}]}),
    ],
)
def test_what_does_not_pass_is_asked_once(chat_server, model, answer):
    chat_server.answers = [answer]
    failure(model(max_retries=None))
    assert len(chat_server.requests) == 1


def test_a_stop_ends_the_waiting(chat_server, model):
    chat_server.answers = [(503, {}, {"Retry-After": "500"})]
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert "the server fails (503" in failure(model(max_retries=None).for_episode("t", 0, 1).until(stop))


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>It works!</html>", {"Content-Type": "text/html"}),
        (200, b"{"),
        (200, {"error": {"message": "upstream failed"}}),
        (200, {"choices": []}),
        (200, []),
    ],
)
def test_nonsense_is_a_model_error(chat_server, model, answer):
    chat_server.answers = [answer]
    assert "expected a chat completion" in failure(model(max_retries=0))
    chat_server.answers = [answer]
    chat_server.models = answer
    with pytest.raises(ModelError):
        model().check()


def test_what_is_left_out_of_answers_is_counted(chat_server, completion, model):
    odd = {"logprobs": {"content": [{"token": "x", "logprob": float("nan")}]}}
    chat_server.answers = [
        (200, completion("a", choice=odd)),
        (200, completion("b")),
        (200, completion("c", choice=odd)),
    ]
    shared = model()
    assert [shared.for_episode("t", 0, 1).reply(HELLO).content for _ in range(3)] == ["a", "b", "c"]
    assert shared.left_out == {"log-probabilities": 2}


def test_prices_where_the_server_counts_only_some(chat_server, completion, model):
    usage = {"prompt_tokens": None, "completion_tokens": 5}
    chat_server.answers = [(200, completion("a", usage=usage))]
    priced = model(usd_per_million_prompt=1.0, usd_per_million_completion=1.0)
    assert priced.reply(HELLO).usage == Usage(completion_tokens=5)


UNKNOWN = (400, {"error": {"message": "Bad Request", "code": "1214"}})


def test_an_unknown_400_at_the_largest_prompt_so_far_is_a_full_context(chat_server, completion, model):
    chat_server.answers = [UNKNOWN, (200, completion("a")), UNKNOWN, UNKNOWN]
    asked = model()
    assert "the server refuses the request (400: Bad Request" in failure(asked)  # nothing was taken before
    asked.reply(HELLO)
    with pytest.raises(ContextOverflow, match="400 without a known reason"):
        asked.reply([*HELLO, {"role": "user", "content": "More."}])
    assert "the server refuses the request (400: Bad Request" in failure(asked)  # as large as one that was taken


def test_a_400_that_names_something_is_no_full_context(chat_server, completion, model):
    named = (400, {"error": {"message": "messages: tool_call_id: field required"}})
    chat_server.answers = [(200, completion("a")), named]
    asked = model()
    asked.reply(HELLO)
    with pytest.raises(ModelError, match="field required"):
        asked.reply([*HELLO, {"role": "user", "content": "More."}])


CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("settings", "message", "sent_back"),
    [
        ({}, {"reasoning_content": "hm", "tool_calls": [CALL]}, {"reasoning_content": "hm"}),
        ({}, {"reasoning": "hm", "tool_calls": [CALL]}, {"reasoning": "hm"}),
        (
            {},
            {"reasoning_details": [{"text": "hm", "id": "r1"}], "tool_calls": [CALL]},
            {"reasoning_details": [{"text": "hm", "id": "r1"}]},
        ),
        ({}, {"reasoning_content": "hm"}, {}),
        ({}, {"tool_calls": [CALL]}, {}),
        ({"send_reasoning": "never"}, {"reasoning_content": "hm", "tool_calls": [CALL]}, {}),
        ({"send_reasoning": "always"}, {"reasoning": "hm"}, {"reasoning": "hm"}),
        ({"send_reasoning": "always"}, {"content": "<think>hm</think>x"}, {"reasoning_content": "hm"}),
        ({"send_reasoning": "always", "reasoning_field": "reasoning"}, {"thinking": "hm"}, {"reasoning": "hm"}),
        ({"send_reasoning": "always"}, {}, {}),
    ],
)
def test_thinking_goes_back_where_it_is_wanted(chat_server, completion, model, settings, message, sent_back):
    chat_server.answers = [(200, completion("x", message=message))]
    assert model(**settings).reply(HELLO, tools=TOOLS).sent_back == sent_back


def test_a_server_that_demands_thinking_is_believed(chat_server, completion, model):
    missing = (400, {"error": {"message": "Missing `reasoning_content` field in the assistant message at index 1."}})
    chat_server.answers = [missing, (200, completion("x", message={"reasoning_content": "hm"})), (200, completion("y"))]
    asked = model()
    before = [*HELLO, {"role": "assistant", "content": "a"}]
    with pytest.raises(ReasoningWanted) as wanted:
        asked.reply(before)
    assert wanted.value.field == "reasoning_content"
    before[1]["reasoning_content"] = ""
    assert asked.reply(before).sent_back == {"reasoning_content": "hm"}
    assert asked.for_episode("t", 0, 1).reply(before).sent_back == {"reasoning_content": ""}
    chat_server.answers = [missing]
    with pytest.raises(ModelError) as error:  # it was sent, and that did not help
        asked.reply(before)
    assert not isinstance(error.value, ReasoningWanted)


def test_a_server_that_refuses_thinking_is_believed(chat_server, completion, model):
    refused = (400, {"error": {"message": "'messages.1': property 'reasoning' is unsupported"}})
    said = completion("", message={"reasoning": "hm", "tool_calls": [CALL]})
    chat_server.answers = [(200, said), refused, (200, said)]
    asked = model()
    before = [*HELLO, {"role": "assistant", "content": "", **asked.reply(HELLO).sent_back}]
    with pytest.raises(ReasoningWanted) as wanted:
        asked.reply(before)
    assert wanted.value.field is None
    assert asked.reply(HELLO).sent_back == {}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "Too long.", "code": "context_length_exceeded"}}),
        (
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
        (
            400,
            {
                "object": "error",
                "message": "The decoder prompt (length 8357) is longer than the maximum model length of 8192.",
            },
        ),
        (400, {"object": "error", "message": "max_tokens must be at least 1, got -186."}),
        (
            400,
            {"message": "The input (61709 tokens) is longer than the model's context length (40960 tokens)."},
        ),
        (400, {"message": "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens)."}),
        (400, {"error": {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}}),
        (400, {"message": "Requested token count exceeds the model's maximum context length of 202752 tokens."}),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "request (4390 tokens) exceeds the available context size (4096 tokens)",
                }
            },
        ),
        (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}),
        (400, {"error": {"message": "Requested tokens (2285) exceed context window of 2048"}}),
        (200, {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}),
    ],
)
def test_a_full_context_is_no_failure(chat_server, model, status, body):
    chat_server.answers = [(status, body, {"Retry-After": "0"})] * 3
    with pytest.raises(ContextOverflow):
        model().reply(HELLO)


@pytest.mark.parametrize(
    "message",
    ["max_tokens must not exceed 4096", "image exceeds the maximum size", "this exceeds the model's rate limit"],
)
def test_other_limits_are_not_a_full_context(chat_server, model, message):
    chat_server.answers = [(400, {"error": {"message": message}})]
    assert message in failure(model())


def test_refused_token_ids_are_remembered_by_all_episodes(chat_server, completion, model):
    refusal = (422, {"detail": "Unexpected keys in the request: {'return_token_ids'}"})
    chat_server.answers = [refusal, *[(200, completion("a"))] * 2]
    shared = model()
    assert shared.for_episode("t", 0, 1).reply(HELLO).token_ids is None
    shared.for_episode("t", 1, 2).reply(HELLO)
    assert ["return_token_ids" in request for request in chat_server.requests] == [True, False, False]


def test_token_ids_that_must_be_had(chat_server, model):
    chat_server.answers = [(422, {"detail": "Unexpected keys in the request: {'return_token_ids'}"})]
    assert "the server refuses return_token_ids, which the config asks for" in failure(model(return_token_ids=True))


@pytest.mark.parametrize(
    ("refusals", "asked"),
    [
        (
            [(403, {"error": {"message": "You are not allowed to request logprobs from this model"}})],
            [{"logprobs", "return_token_ids"}, {"return_token_ids"}, {"return_token_ids"}],
        ),
        (
            [(400, {"error": {"message": "unknown: return_token_ids"}}), (400, {"message": "Logprobs is not enabled"})],
            [{"logprobs", "return_token_ids"}, {"logprobs"}, set(), set()],
        ),
    ],
)
def test_refused_logprobs_are_gone_without(chat_server, completion, model, refusals, asked):
    chat_server.answers = [*refusals, *[(200, completion("a"))] * 2]
    shared = model()
    assert shared.for_episode("t", 0, 1).reply(HELLO).logprobs is None
    shared.for_episode("t", 1, 2).reply(HELLO)
    assert [{"logprobs", "return_token_ids"} & set(request) for request in chat_server.requests] == asked


def test_logprobs_that_must_be_had_or_are_not_wanted(chat_server, completion, model):
    chat_server.answers = [(403, {"error": {"message": "no logprobs"}}), (200, completion("a"))]
    assert "the server refuses logprobs, which the config asks for" in failure(model(logprobs=True))
    model(logprobs=False).reply(HELLO)
    assert "logprobs" not in chat_server.requests[1]


@pytest.mark.parametrize("logprobs", [{"tokens": ["a"], "token_logprobs": [-0.5]}, {"content": [{"token": "a"}]}, [1]])
def test_logprobs_of_another_shape_are_none(chat_server, completion, model, logprobs):
    chat_server.answers = [(200, completion("a", choice={"logprobs": logprobs}))]
    reply = model().reply(HELLO)
    assert (reply.content, reply.logprobs) == ("a", None)


@pytest.mark.parametrize("url", ["http://[bad", "http://host:port/v1"])
def test_a_url_that_is_none(url):
    with pytest.raises(InputError, match="is not a URL"):
        OpenAIModel(OpenAIConfig(base_url=url, name="tiny"))


def test_threads_share_a_model(chat_server, completion, model):
    chat_server.answers = [(200, completion("a"))] * 16
    shared, replies = model(), []

    def ask(number):
        replies.append(shared.for_episode("t", number, number).reply(HELLO).content)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == ["a"] * 16
    assert sorted(request["seed"] for request in chat_server.requests) == list(range(16))


def test_the_key_comes_from_the_variable_named_else_from_the_fields_own(chat_server, completion, model, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("MY_KEY", "sk-mine\n")
    chat_server.answers = [(200, completion("a"))] * 4
    model(api_key_env="MY_KEY").reply(HELLO)
    model().reply(HELLO)
    model(api_key_env="").reply(HELLO)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    model().reply(HELLO)
    assert chat_server.keys == ["Bearer sk-mine", "Bearer sk-other", "Bearer none", "Bearer none"]
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(InputError, match="the environment variable MY_KEY is not set"):
        model(api_key_env="MY_KEY")


def test_the_address_comes_from_the_configuration_else_from_the_environment(chat_server, completion, monkeypatch):
    chat_server.answers = [(200, completion("a"))] * 2
    monkeypatch.setenv("OPENAI_BASE_URL", chat_server.url)
    asked = OpenAIModel(OpenAIConfig(name="tiny"))
    assert asked.reply(HELLO).content == "a"
    assert asked.config.base_url == chat_server.url
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert OpenAIModel(OpenAIConfig(name="tiny", base_url=chat_server.url)).reply(HELLO).content == "a"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert OpenAIModel(OpenAIConfig(name="gpt-4.1")).config.base_url == "https://api.openai.com/v1"


def test_what_the_environment_decides_is_told_without_the_key(chat_server, monkeypatch, logged):
    host = chat_server.url.removeprefix("http://")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://me:password@{host}")
    OpenAIModel(OpenAIConfig(name="tiny"))
    OpenAIModel(OpenAIConfig(name="tiny", base_url=chat_server.url, api_key_env=""))
    assert logged == [f"model tiny at http://{host}: its address from OPENAI_BASE_URL and its key from OPENAI_API_KEY"]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_no_message_has_the_key_that_a_server_quotes(chat_server, model, monkeypatch, logged, status):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    said = {"error": {"message": "Incorrect API key provided: sk-secret", "code": 400}}
    chat_server.answers = [(status, said, {"Retry-After": "0"})] * 4
    told = failure(model())
    assert "sk-secret" not in told + "".join(logged)
    assert "provided: (the key in OPENAI_API_KEY)" in told


def test_check_finds_the_model(chat_server, completion, model):
    model().check()
    assert chat_server.requests == []
    # A server without a list, and one that takes names beyond its list: the model itself is asked.
    for models in (
        (404, {}),
        (500, {}, {"Retry-After": "0"}),
        (200, {"data": [{"id": "big", "object": "model"}]}),
        (200, {}),
    ):
        chat_server.models = models
        chat_server.answers = [(200, completion("a"))]
        model().check()
    assert len(chat_server.requests) == 4


def test_check_tries_the_key_where_the_list_of_models_is_public(chat_server, completion, model, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-mine")
    chat_server.answers = [(200, completion("a")), (401, {"error": {"message": "Bad key"}})]
    model(api_key_env="MY_KEY").check()
    with pytest.raises(ModelError, match=r"refuses the key in MY_KEY \(.*Bad key"):
        model(api_key_env="MY_KEY").check()
    assert chat_server.keys == ["Bearer sk-mine"] * 2


def test_check_says_what_is_wrong(chat_server, model):
    chat_server.models = (200, {"data": [{"id": "big", "object": "model"}]})
    chat_server.answers = [(404, {"error": {"message": "unknown"}})]
    with pytest.raises(ModelError, match=r"\(unknown\); models there: big; correct the name"):
        model().check()
    chat_server.models = (401, {"error": {"message": "Bad key"}})
    with pytest.raises(ModelError, match="refuses a request without a key"):
        model().check()
    chat_server.close()
    with pytest.raises(ModelError, match="no server answers there"):
        model().check()
