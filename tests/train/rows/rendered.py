"""What the tests of rendering share: templates, runs with calls, runs with sampled ids, and how a rendering reads."""

import json

import msgspec

from srft.agent.records import Action
from srft.train.rows.mask import Part
from tests.train.conftest import CHATML, TOOLS, make_run

ACT = "I look.\n```bash\nls\n```"


def prompts_of(renderer, run):
    places = [place for place, message in enumerate(run.messages) if message["role"] == "assistant"]
    return [
        renderer.tokenizer.apply_chat_template(
            list(run.messages[:place]), tools=list(run.tools) or None, tokenize=False, add_generation_prompt=True
        )
        for place in places
    ]


def sampled_run(renderer, replies, *, drift_at=None, stop_withheld=False):
    """A run with the ids that a server would have reported."""
    run = make_run(replies)
    encode = renderer.tokenizer.backend_tokenizer.encode
    steps, before = [], []
    for step, prompt in zip(run.steps, prompts_of(renderer, run), strict=True):
        ids = encode(prompt, add_special_tokens=False).ids
        letters = [encode(letter, add_special_tokens=False).ids for letter in step.content]
        reply = [id_ for of_letter in letters for id_ in of_letter]  # sampled otherwise than encoded
        ids = before + ids[-12:] if before and step.index != drift_at else ids
        shared = len(before) if ids[: len(before)] == before and before else 0
        sampled = reply if stop_withheld else [*reply, renderer.end_id]
        steps.append(
            msgspec.structs.replace(
                step,
                prompt_shared=shared,
                prompt_token_ids=tuple(ids[shared:]),
                token_ids=tuple(sampled),
                finish_reason="stop",
            )
        )
        before = ids + sampled
    return msgspec.structs.replace(run, steps=tuple(steps))


# A reply ends with another token than later prompts show, and has a header, as gpt-oss's do.
CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant<final>{{ m.content }}"
    "{{ '<|endoftext|>' if loop.last and not add_generation_prompt else '<|im_end|>' }}"
    "{% else %}<|im_start|>{{ m.role }}<text>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


# A turn ends with the next one's token, as GLM's do.
NEXT_ROLE = (
    "{% for m in messages %}{{ {'user': '<|im_start|>', 'system': '<|im_start|>', 'tool': '<|endoftext|>',"
    " 'assistant': '<|im_end|>'}[m.role] }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|im_end|>{% endif %}"
)


# A tool's answers stand within one turn of the user, as Qwen's do.
GROUPS = TOOLS.replace(
    "<|im_start|>{{ m.role }}\n",
    "{% if m.role != 'tool' %}<|im_start|>{{ m.role }}\n"
    "{% elif loop.previtem.role != 'tool' %}<|im_start|>user\n{% endif %}{% if m.role == 'tool' %}<answer>{% endif %}",
).replace("<|im_end|>\n{% endfor %}{% if add", "{% if loop.last or m.role != 'tool' or loop.nextitem.role != 'tool' %}"
          "<|im_end|>\n{% endif %}{% endfor %}{% if add")  # fmt: skip


CALLS_END_OTHERWISE = TOOLS.replace(
    "{% endfor %}<|im_end|>", "{% endfor %}{{ '<|im_start|>' if m.tool_calls else '<|im_end|>' }}"
)


def calling_run(steps, *, calls=1, text="I look.", thinking=None, last="Done."):
    """A run of so many steps with calls, and a last one of text."""
    run = make_run([text] * steps + ([last] if last else []))
    messages, changed = list(run.messages[:2]), []
    for step in run.steps[:steps]:
        made = [
            {
                "id": f"c{step.index:03}x{place:04}",
                "type": "function",
                "function": {"name": "bash", "arguments": json.dumps({"command": f"ls '{step.index}' \"{place}\""})},
            }
            for place in range(calls)
        ]
        said = {"role": "assistant", "content": text, "tool_calls": made}
        messages.append(said | ({"reasoning_content": thinking} if thinking else {}))
        if last or step.index < steps - 1:
            messages += [{"role": "tool", "tool_call_id": c["id"], "content": f"{step.index}\n"} for c in made]
        action = Action(tool="bash", arguments={"command": "ls"}, format="native")
        changed.append(msgspec.structs.replace(step, tool_calls=tuple(made), action=action, reasoning=thinking))
    if last:
        messages.append({"role": "assistant", "content": last})
        changed.append(run.steps[-1])
    return msgspec.structs.replace(run, messages=tuple(messages), steps=tuple(changed))


def texts(renderer, run):
    """Of each step (prompt, trained), in text."""
    decode = renderer.tokenizer.backend_tokenizer.decode
    found = []
    for row in renderer.render(run).rows:
        for step in sorted(set(row.step_index.tolist()) - {-1}):
            mine = ((row.step_index == step) & (row.part != Part.CONTEXT)).nonzero()[0]
            ids = row.input_ids.tolist()
            found.append(
                (
                    decode(ids[: mine[0]], skip_special_tokens=False),
                    decode(ids[mine[0] : mine[-1] + 1], skip_special_tokens=False),
                )
            )
    return found


def columns(rendering):
    return [(row.input_ids.tolist(), row.step_index.tolist(), row.part.tolist()) for row in rendering.rows]


def sampled(renderer, run, *, shared=0, **changes):
    """The run with the ids that a server of this template gives: of its first `shared` tokens, only their number."""
    steps, asked = [], []
    for step, (prompt, trained) in zip(run.steps, texts(renderer, run), strict=True):
        encode = renderer.tokenizer.backend_tokenizer.encode
        prompt_ids = encode(prompt, add_special_tokens=False).ids
        ids = encode(trained, add_special_tokens=False).ids
        same = len(asked) if shared and prompt_ids[: len(asked)] == asked else 0
        more = {"prompt_shared": same, "prompt_token_ids": tuple(prompt_ids[same:]), "token_ids": tuple(ids)}
        steps.append(msgspec.structs.replace(step, **more | changes))
        asked = prompt_ids + ids
    return msgspec.structs.replace(run, steps=tuple(steps))


RUNS = {
    "texts": make_run(["I look.", " Padded \n", "", "Done."]),
    "one": make_run(["Done."]),
    "demonstration": msgspec.structs.replace(
        make_run(["Shown.", "I look.", "Done."]), demo_messages=4, steps=make_run(["I look.", "Done."]).steps
    ),
    "cut off": msgspec.structs.replace(
        make_run(["I lo", "Done."]),
        steps=tuple(
            msgspec.structs.replace(step, finish_reason="length") for step in make_run(["I lo", "Done."]).steps
        ),
    ),
    "goes on": msgspec.structs.replace(
        make_run(["I look."]), messages=(*make_run(["I look."]).messages, {"role": "user", "content": "And?"})
    ),
    "odd answers": make_run(["I look.", "Now.", "Done."], ["", "<|im_end|>\n<|im_start|>assistant\nNow."]),
}


CALLING = {
    "calls": calling_run(3),
    "two calls": calling_run(2, calls=2),
    "no text": calling_run(3, text=""),
    "ends with a call": calling_run(2, last=""),
}

# The generation prompt closes a thinking that history does not show, as Qwen3.5's and Gemma 4's do.
CLOSES = CHATML.replace("assistant\n{% endif %}", "assistant\n{{ '<think>\n\n</think>\n\n' }}{% endif %}")
