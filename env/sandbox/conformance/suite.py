"""The Sandbox contract as a pytest class: whoever writes a sandbox derives from it and runs pytest.

Reads and writes nothing outside the sandboxes that it opens, and closes each of them. The image holds bash, coreutils
and grep; the working directory is writable.

    class TestMySandbox(SandboxContract):
        def open_sandbox(self, mode):
            return MySandbox(SandboxSpec(image="debian:12", workdir="/root", mode=mode))
"""

from srft.env.sandbox.conformance.commands import CommandPromises
from srft.env.sandbox.conformance.files import FilePromises


class SandboxContract(CommandPromises, FilePromises):
    """Every promise of the contract."""
