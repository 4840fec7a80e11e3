"""How other trainers write down which messages are trained.

Reads a `Conversation`; gives one line of the file, as a dict, and the few lines of configuration that make the trainer
read it. Nothing is guessed: what a format cannot say is a reason to leave the run out, or an error.

    FORMATS["ms-swift"].line(conversation)
    FORMATS["ms-swift"].settings(Path("data.jsonl"), fractional=False)

| format        | of a reply               | weights | tool calls                              | thinking kept apart |
|---------------|--------------------------|---------|-----------------------------------------|---------------------|
| axolotl       | train: true / false      | 0 or 1  | arguments as JSON text (it decodes it)  | reasoning_content   |
| ms-swift      | loss, loss_scale         | any     | own messages, role tool_call, JSON text | -                   |
| slime         | step_loss_mask: 1 / 0    | 0 or 1  | arguments as an object                  | reasoning_content   |
| llama-factory | loss_weight              | any     | part of the content, JSON text          | part of the content |
| swe-lego      | turn_mask: true = masked | 0 or 1  | -                                       | -                   |

llama-factory is its v1 (`llamafactory.v1`); swe-lego is the LLaMA-Factory that the SWE-Lego authors publish.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from srft.train.exports.conversation import Conversation

Line = dict[str, Any]


class MessageFormat(NamedTuple):
    """One trainer's form. fractional: whether it knows weights between 0 and 1 and above.

    line: the run in that form, or the reason why it cannot be said. settings: what the trainer's configuration needs.
    """

    fractional: bool
    line: Callable[[Conversation], Line | str]
    settings: Callable[[Path, bool], str]


def _origin(conversation: Conversation) -> Line:
    return {"run_id": conversation.run_id, "task_id": conversation.task_id}


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def _with_text_arguments(message: Line) -> Line:
    """Objects of different keys would be one another's columns once `datasets` has read the file."""
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _json(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _pairs(conversation: Conversation) -> zip[tuple[Line, float | None]]:
    return zip(conversation.messages, conversation.weights, strict=True)


# ---- axolotl ----


def _axolotl(conversation: Conversation) -> Line:
    messages = [{**_with_text_arguments(message), "train": bool(weight)} for message, weight in _pairs(conversation)]
    tools = {"tools": _json(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, **_origin(conversation)}


def _axolotl_settings(out: Path, fractional: bool) -> str:
    return f"""\
datasets:
  - path: {out}
    ds_type: json
    type: chat_template
    field_messages: messages
    message_field_training: train
    roles_to_train: []
    train_on_eos: turn"""


# ---- ms-swift ----


def _swift(conversation: Conversation) -> Line | str:
    messages: list[Line] = []
    for message, weight in _pairs(conversation):
        if message.get("reasoning_content"):
            return "thinking_kept_apart"
        messages += _swift_messages(message, weight)
    tools = {"tools": _json(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, **_origin(conversation)}


def _swift_messages(message: Line, weight: float | None) -> list[Line]:
    """Its role for a tool's answer is tool_response; a reply's calls are messages of their own."""
    if message["role"] != "assistant":
        role = "tool_response" if message["role"] == "tool" else message["role"]
        return [{"role": role, "content": message["content"]}]
    mask: Line = {"loss": bool(weight)}
    if weight not in (None, 0, 1):
        mask["loss_scale"] = weight
    calls = [
        {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in message.get("tool_calls", ())
    ]
    said = [{"role": "assistant", "content": message["content"], **mask}] if message["content"] or not calls else []
    return said + [{"role": "tool_call", "content": _json(call), **mask} for call in calls]


def _swift_settings(out: Path, fractional: bool) -> str:
    scale = " --is_binary_loss_scale false" if fractional else ""
    return f"swift sft --dataset {out} --loss_scale default{scale} --agent_template hermes --max_length 32768"


# ---- slime ----


def _slime(conversation: Conversation) -> Line:
    messages = [
        {**message, "step_loss_mask": int(bool(weight))} if message["role"] == "assistant" else message
        for message, weight in _pairs(conversation)
    ]
    tools = {"tools": conversation.tools} if conversation.tools else {}
    return {"messages": messages, **tools, "metadata": _origin(conversation)}


def _slime_settings(out: Path, fractional: bool) -> str:
    return f"""\
--rollout-function-path slime.rollout.sft_rollout.generate_rollout
--prompt-data {out} --input-key messages --tool-key tools
--loss-type sft_loss --calculate-per-token-loss --disable-compute-advantages-and-returns --debug-train-only
--loss-mask-type qwen3      # as your model is: qwen, qwen3, qwen3_5; without --apply-chat-template"""


# ---- LLaMA-Factory v1 ----


def _llama_factory(conversation: Conversation) -> Line:
    messages = [
        {"role": message["role"], "content": _parts(message), "loss_weight": float(weight or 0)}
        for message, weight in _pairs(conversation)
    ]
    tools = {"tools": _json(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, "extra_info": _json(_origin(conversation))}


def _parts(message: Line) -> list[Line]:
    calls = [
        {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in message.get("tool_calls", ())
    ]
    parts = [{"type": "reasoning", "value": message["reasoning_content"]}] if message.get("reasoning_content") else []
    if message["content"] or not calls:
        parts.append({"type": "text", "value": message["content"]})
    return parts + [{"type": "tool_call", "value": _json(call)} for call in calls]


def _llama_factory_settings(out: Path, fractional: bool) -> str:
    return f"""\
train_dataset: {out}
cutoff_len: 32768           # each trained reply becomes one sample: what came before it, and the reply"""


# ---- SWE-Lego ----


def _swe_lego(conversation: Conversation) -> Line | str:
    messages = [message for message in conversation.messages if message["role"] != "system"]
    system_first = all(message["role"] != "system" for message in conversation.messages[1:])
    if any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        return "native_tool_calls"
    if any(message.get("reasoning_content") for message in messages):
        return "thinking_kept_apart"
    turns = [message["role"] for message in messages]
    if not system_first or turns != ["user", "assistant"] * (len(turns) // 2):
        return "turns_do_not_alternate"
    said = [
        {"role": message["role"], "content": message["content"], "turn_mask": not weight}
        if message["role"] == "assistant"
        else {"role": message["role"], "content": message["content"]}
        for message, weight in _pairs(conversation)
    ]
    return {"messages": said, **_origin(conversation)}


def _swe_lego_settings(out: Path, fractional: bool) -> str:
    entry = {
        "srft": {
            "file_name": str(out.absolute()),
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    }
    return f"in data/dataset_info.json:\n{json.dumps(entry, indent=2)}\nin the recipe:\ndataset: srft\nturn_mask: true"


FORMATS: dict[str, MessageFormat] = {
    "axolotl": MessageFormat(False, _axolotl, _axolotl_settings),
    "ms-swift": MessageFormat(True, _swift, _swift_settings),
    "slime": MessageFormat(False, _slime, _slime_settings),
    "llama-factory": MessageFormat(True, _llama_factory, _llama_factory_settings),
    "swe-lego": MessageFormat(False, _swe_lego, _swe_lego_settings),
}
