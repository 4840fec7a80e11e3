"""What becomes of runs under chat templates that others publish: one line a template and kind of run.

    python tests/public_templates.py FOLDER [FOLDER ...]        # folders of *.jinja, say llama.cpp's models/templates

Each template gets a byte-level tokenizer with the special tokens that it spells. Prints how many templates there are
for each outcome of each kind of run, and which are refused.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from srft.env.errors import InputError  # noqa: E402
from srft.harness.doctor.model import check_runs  # noqa: E402
from srft.train.rows.render import Renderer  # noqa: E402
from tests.train.byte_tokenizer import byte_tokenizer  # noqa: E402

SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|?>|<[a-z_]{1,40}\|>|<｜[^｜]{1,40}｜>|\[/?[A-Z_]{3,30}\]|</?s>|<(?:start|end)_of_turn>"
    r"|<(?:begin|end)_of_\w+>|\]~b\]|\[e~\[|<[be]os>|<seed:[a-z_:]+>|<SPECIAL_\d+>|</?assistant>"
)


def tokenizer_of(template: str):
    """A tokenizer to which all that looks like a special token in the template is one."""
    tokenizer = byte_tokenizer(template)
    special = sorted({*SPECIAL.findall(template), "<|im_start|>"})
    tokenizer.add_special_tokens(
        {"additional_special_tokens": special, "bos_token": "<|the_beginning|>", "eos_token": "<|the_end|>"}
    )
    return tokenizer


def main(folders: list[str]) -> None:
    paths = [path for folder in folders for path in sorted(Path(folder).rglob("*.jinja"))]
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in paths:
        try:
            renderer = Renderer(tokenizer_of(path.read_text(encoding="utf-8")))
        except InputError as error:
            found["template", re.sub(r"'.*'", "...", str(error).strip(": ").partition("; ")[0])].append(path.stem)
            continue
        for finding in check_runs(renderer):
            found[finding.name, finding.found].append(path.stem)
    print(f"{len(paths)} templates")
    for (kind, outcome), names in sorted(found.items(), key=lambda item: (item[0][0], -len(item[1]))):
        print(f"{kind:36}{len(names):4}  {outcome[:150]}")
        if outcome != "one row a run":
            print(f"{'':40}  {', '.join(sorted(names))}")


if __name__ == "__main__":
    main(sys.argv[1:])
