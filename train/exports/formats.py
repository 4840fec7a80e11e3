"""The formats in which other trainers mark the messages that are trained.

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
| verl          | loss_mask: 1 / 0         | 0 or 1  | arguments as JSON text                  | reasoning_content   |
| nemo          | a row a trained reply    | 0 or 1  | arguments as an object                  | reasoning_content   |
| prime-rl      | -                        | 1       | arguments as JSON text (it decodes it)  | reasoning_content   |
| atif          | extra.loss_weight        | any     | arguments as an object                  | reasoning_content   |

llama-factory is its v1 (`llamafactory.v1`); swe-lego is the LLaMA-Factory that the SWE-Lego authors publish; nemo is
NeMo Automodel and NeMo RL. None of them can mask a part of a message.
"""

from __future__ import annotations

import json
from pathlib import Path

from srft.train.exports import atif
from srft.train.exports.conversation import Conversation
from srft.train.exports.form import Line, MessageFormat, json_text, origin, pairs, with_ids, with_text_arguments
from srft.train.exports.verl import verl_format

# ---- axolotl ----


def _axolotl(conversation: Conversation) -> Line:
    messages = [{**with_text_arguments(message), "train": bool(weight)} for message, weight in pairs(conversation)]
    tools = {"tools": json_text(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, **origin(conversation)}


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
    for message, weight in pairs(conversation):
        if message.get("reasoning_content"):
            return "thinking_kept_apart"
        messages += _swift_messages(message, weight)
    tools = {"tools": json_text(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, **origin(conversation)}


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
    return said + [{"role": "tool_call", "content": json_text(call), **mask} for call in calls]


def _swift_settings(out: Path, fractional: bool) -> str:
    scale = " --is_binary_loss_scale false" if fractional else ""
    return f"swift sft --dataset {out} --loss_scale default{scale} --agent_template hermes --max_length 32768"


# ---- slime ----


def _slime(conversation: Conversation) -> Line:
    messages = [
        {**message, "step_loss_mask": int(bool(weight))} if message["role"] == "assistant" else message
        for message, weight in pairs(conversation)
    ]
    tools = {"tools": conversation.tools} if conversation.tools else {}
    return {"messages": messages, **tools, "metadata": origin(conversation)}


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
        for message, weight in pairs(conversation)
    ]
    tools = {"tools": json_text(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, "extra_info": json_text(origin(conversation))}


def _parts(message: Line) -> list[Line]:
    calls = [
        {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in message.get("tool_calls", ())
    ]
    parts = [{"type": "reasoning", "value": message["reasoning_content"]}] if message.get("reasoning_content") else []
    if message["content"] or not calls:
        parts.append({"type": "text", "value": message["content"]})
    return parts + [{"type": "tool_call", "value": json_text(call)} for call in calls]


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
        for message, weight in pairs(conversation)
    ]
    return {"messages": said, **origin(conversation)}


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


# ---- NeMo Automodel, NeMo RL ----


def _nemo(conversation: Conversation) -> list[Line]:
    """Both train all replies of a row or its last one alone: so a row for each trained reply, which ends with it."""
    messages = with_ids(conversation.messages)
    tools = {"tools": list(conversation.tools)} if conversation.tools else {}
    ends = [place for place, weight in enumerate(conversation.weights) if weight]
    return [{"messages": messages[: end + 1], **tools, **origin(conversation)} for end in ends]


def _nemo_settings(out: Path, fractional: bool) -> str:
    return f"""\
# NeMo Automodel
dataset:
  _target_: nemo_automodel.components.datasets.llm.chat_dataset.ChatDataset
  path_or_dataset_id: {out}
  mask_history: true            # without it every reply of a row is trained
# NeMo RL
sft: {{only_unmask_final: true}}  # the same
data:
  train: {{dataset_name: openai_format, data_path: {out}, use_preserving_dataset: true}}"""


# ---- prime-rl ----


def _before_a_mask(conversation: Conversation) -> Conversation | str:
    """It trains every reply of a row, those of a prompt too, so a run can be said up to its first masked reply."""
    masked = next(
        (
            place
            for place, (message, weight) in enumerate(pairs(conversation))
            if message["role"] == "assistant" and not weight
        ),
        len(conversation.messages),
    )
    trained = [place for place, weight in enumerate(conversation.weights[:masked]) if weight]
    if not trained:
        return "its_first_reply_is_masked"
    end = trained[-1] + 1
    return conversation._replace(
        messages=conversation.messages[:end],
        weights=conversation.weights[:end],
        cut=conversation.cut + len(conversation.messages) - end,
        lost=sum(bool(weight) for weight in conversation.weights[end:]),
    )


def _prime_rl(conversation: Conversation) -> Line:
    messages = [with_text_arguments(message) for message in conversation.messages]
    tools = {"tools": json_text(conversation.tools)} if conversation.tools else {}
    return {"messages": messages, **tools, **origin(conversation)}


def _prime_rl_settings(out: Path, fractional: bool) -> str:
    return f"""\
[data]
name = "{out.parent}"           # a folder with this file alone
# prime-rl has no mask for a single reply: the runs end before the first one that is masked. For the whole mask take
# --format trl, or another trainer."""


FORMATS: dict[str, MessageFormat] = {
    "axolotl": MessageFormat(False, _axolotl, _axolotl_settings),
    "ms-swift": MessageFormat(True, _swift, _swift_settings),
    "slime": MessageFormat(False, _slime, _slime_settings),
    "llama-factory": MessageFormat(True, _llama_factory, _llama_factory_settings),
    "swe-lego": MessageFormat(False, _swe_lego, _swe_lego_settings),
    "verl": verl_format(),
    "nemo": MessageFormat(False, _nemo, _nemo_settings),
    "prime-rl": MessageFormat(False, _prime_rl, _prime_rl_settings, prepare=_before_a_mask),
    "atif": atif.FORMAT,
}


def format_of(name: str) -> MessageFormat:
    """The form for one file: verl's remembers the file's runs."""
    return verl_format() if name == "verl" else FORMATS[name]
