r"""Bash programs of ours in a sandbox: what goes in and comes out is bytes, and nothing of the agent's comes between.

    ask(sandbox, 'git ls-files -z -- "$1"', "docs", timeout_s=60)       # b"docs/a.md\0docs/caf\xe9\0"

An argument is a word of bash, so that no program is put together from names.
"""

import base64
import shlex

from srft.env.errors import SrftError
from srft.env.sandbox.contract import Sandbox

OUTPUT_LIMIT_BYTES = 256 << 20
_ERRORS = "srft: what the program said"

ENVIRONMENT = r"""
set -eu -o pipefail
unset "${!GIT_@}"
export LC_ALL=C GIT_NO_REPLACE_OBJECTS=1 GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL= GIT_OPTIONAL_LOCKS=0
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
"""
"""How every program of ours begins: no variable and no configuration of the image's or the agent's reaches git."""


class ProgramError(SrftError):
    """A program ended with an error.

    exit_code: `None` where it ran out of time.
    """

    def __init__(self, exit_code: int | None, said: str) -> None:
        super().__init__(said)
        self.exit_code = exit_code


def ask(sandbox: Sandbox, program: str, *arguments: str, given: bytes = b"", timeout_s: float) -> bytes:
    """What a program prints, byte for byte. given: its stdin. Raises ProgramError, SandboxDied.

    Neither startup files nor exported functions reach it (`-p`). Its errors go into a file and are told if it fails.
    """
    errors = "${TMPDIR:-/var/tmp}/.srft-errors"
    words = shlex.join(["-c", ENVIRONMENT + program, "srft", *arguments])
    fed = f"builtin printf %s {base64.b64encode(given).decode()} | command base64 -d | " if given else ""
    command = (
        f"(set -o pipefail; {fed}command bash --noprofile --norc -p {words} 2>{errors} | command base64 -w 0; code=$?; "
        f"[ $code = 0 ] || {{ printf '\\n{_ERRORS}\\n'; command tail -c 500 {errors}; }}; exit $code)"
    )
    result = sandbox.run(command, timeout_s, output_limit_bytes=OUTPUT_LIMIT_BYTES)
    if result.exit_code == 0 and not result.elided_bytes:
        try:  # behind what the shell says of a working directory that is gone
            return base64.b64decode(result.output.rpartition("\n")[2], validate=True)
        except ValueError:
            pass
    raise ProgramError(result.exit_code, result.output.rpartition(f"{_ERRORS}\n")[2].strip()[-500:] or f"{result}")
