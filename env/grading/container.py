"""The container in which a patch is tested: the official harness's own, with limits.

Reads a Task, writes nothing.

    GradingContainer(network="none").spec(task)      # for DockerSandbox and the like

The tests run the model's own code as root. swebench gives them SYS_ADMIN, the engine's default network and as much of
the machine as they take. Here memory and processes are bounded, far above what its tasks need; network and capabilities
are as there unless set otherwise. The host's own network is refused: its loopback has services that trust whoever
reaches them.
"""

from dataclasses import dataclass, field

from srft.env.errors import InputError
from srft.env.sandbox.contract import Limits, SandboxSpec
from srft.env.tasks.task import Task

OFFICIAL_NETWORK = "bridge"
OFFICIAL_CAPABILITIES = ("SYS_ADMIN",)


@dataclass(frozen=True)
class GradingContainer:
    """network: `bridge`, `none`, or a network of the engine's; the local sandbox has `none` alone. capabilities: beyond
    the engine's default ones. Raises InputError for a network that is the host's or another container's."""

    network: str = OFFICIAL_NETWORK
    capabilities: tuple[str, ...] = OFFICIAL_CAPABILITIES
    limits: Limits = field(default_factory=lambda: Limits(memory_bytes=8 << 30, cpus=None, pids=4096))

    def __post_init__(self) -> None:
        if self.network == "host" or self.network.startswith(("container:", "ns:")):
            raise InputError(
                f"grading.network: {self.network} would show the tests of a patch the services of this machine's own "
                "loopback, or another container's; take bridge, none, or the name of a network of the engine's"
            )

    @property
    def key(self) -> str:
        """What of it a verdict depends on; empty for the official network and capabilities."""
        if (self.network, self.capabilities) == (OFFICIAL_NETWORK, OFFICIAL_CAPABILITIES):
            return ""
        return f"{self.network} {' '.join(sorted(self.capabilities))}"

    def spec(self, task: Task) -> SandboxSpec:
        return SandboxSpec(
            image=task.image,
            workdir="/",
            mode="stateless",
            network=self.network,
            limits=self.limits,
            capabilities=self.capabilities,
            new_privileges=True,
        )
