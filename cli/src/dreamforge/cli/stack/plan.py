"""The services of a local stack as values: names, environments, ports and order. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamforge.contracts.log.permissions import runner_user
from dreamforge.runtime.network import authority, reachable
from dreamforge.runtime.remote.settings import RemoteSettings
from dreamforge.runtime.service.settings import EXIT_SETTINGS

# The user who stops a local stack waits this long; a render that is not finished by then returns to the queue.
RUNNER_DRAIN_SECONDS = 5
# Longer than any service needs to finish its current work, apart from the drain of a runner; then it is killed.
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Options of `dreamforge up`. A port of 0 takes a free one. Several runners get numbers behind `runner_id`."""

    gateway_port: int
    gateway_host: str = "127.0.0.1"
    runners: int = 1
    #: The GPUs of this machine that are used, as nvidia-smi counts them; none: the runners are on the CPU.
    gpus: tuple[int, ...] = ()
    #: How many runners share a device.
    shares: int = 1
    renderer: str = "diffusers"
    runner_id: str = "local"
    drain_seconds: float = RUNNER_DRAIN_SECONDS
    #: Where runners of other machines are taken; off unless it has a host.
    remote: RemoteSettings = field(default_factory=RemoteSettings)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service process. `host:port` answers /readyz; `environment` is added to the common environment."""

    name: str
    kind: str
    host: str
    port: int
    environment: Mapping[str, str]

    @property
    def bus_user(self) -> str:
        """The user of NATS that it is."""
        return runner_user(self.environment["FORGE_RUNNER_ID"]) if self.kind == "gpu-runner" else self.kind

    @property
    def stop_seconds(self) -> float:
        """How long an orderly stop of it may take."""
        return STOP_SECONDS + float(self.environment.get("FORGE_RUNNER_DRAIN_SECONDS", 0))

    @property
    def module(self) -> str:
        """The module for `python -m`."""
        return f"dreamforge.{self.kind.replace('-', '_')}"

    @property
    def address(self) -> str:
        """Address of its HTTP server."""
        return authority(reachable(self.host), self.port)

    @property
    def alive_url(self) -> str:
        """Answers 200 from when the service has imported its modules and has its settings."""
        return f"http://{self.address}/healthz"

    @property
    def ready_url(self) -> str:
        """Answers 200 when the service is ready."""
        return f"http://{self.address}/readyz"


def runner_names(count: int) -> tuple[str, ...]:
    """Names of the runners; a single one has no number.

    >>> runner_names(1), runner_names(2)
    (('gpu-runner',), ('gpu-runner-1', 'gpu-runner-2'))
    """
    return ("gpu-runner",) if count == 1 else tuple(f"gpu-runner-{i}" for i in range(1, count + 1))


def runner_ids(options: StackOptions) -> tuple[str, ...]:
    """The ids of the runners."""
    return tuple(name.replace("gpu-runner", options.runner_id) for name in runner_names(options.runners))


def service_names(options: StackOptions) -> tuple[str, ...]:
    """Every service of the stack, in display order."""
    return ("gateway", "scheduler", *runner_names(options.runners), "projector")


def health_environment(host: str, port: int) -> dict[str, str]:
    """Address of the health endpoint of a service that is not a web server."""
    return {"FORGE_HEALTH_HOST": host, "FORGE_HEALTH_PORT": str(port)}


def gateway_spec(options: StackOptions, port: int) -> ServiceSpec:
    """The gateway serves its health endpoint itself."""
    environment = {"FORGE_GATEWAY_HOST": options.gateway_host, "FORGE_GATEWAY_PORT": str(port)}
    remote = options.remote.model_dump(exclude_none=True) if options.remote.host else {}
    environment |= {f"FORGE_REMOTE_{name.upper()}": str(value) for name, value in remote.items()}
    return ServiceSpec("gateway", "gateway", options.gateway_host, port, environment)


def worker_spec(name: str, kind: str, port: int) -> ServiceSpec:
    """A service that is no web server."""
    return ServiceSpec(name, kind, "127.0.0.1", port, health_environment("127.0.0.1", port))


def device_environment(options: StackOptions, place: int) -> dict[str, str]:
    """Where the runner at this place renders: GPUs go round, and are all that CUDA sees; a CPU is shared by all."""
    if not options.gpus:
        return {"FORGE_RUNNER_DEVICE_SHARES": str(max(options.shares, options.runners))} if options.runners > 1 else {}
    gpu = str(options.gpus[place % len(options.gpus)])
    return {
        "FORGE_RUNNER_GPU_INDEX": gpu,
        "CUDA_VISIBLE_DEVICES": gpu,
        "FORGE_RUNNER_DEVICE_SHARES": str(options.shares),
    }


def runner_spec(name: str, options: StackOptions, port: int, place: int) -> ServiceSpec:
    """A runner under a name of its own, so that several live on one machine."""
    spec = worker_spec(name, "gpu-runner", port)
    own = {
        "FORGE_RUNNER_RENDERER": options.renderer,
        "FORGE_RUNNER_ID": name.replace("gpu-runner", options.runner_id),
        "FORGE_RUNNER_DRAIN_SECONDS": f"{options.drain_seconds:g}",
        **device_environment(options, place),
    }
    return ServiceSpec(spec.name, spec.kind, spec.host, spec.port, {**spec.environment, **own})


def service_specs(options: StackOptions, ports: Mapping[str, int]) -> tuple[ServiceSpec, ...]:
    """All services. `ports` has one for each name in `service_names`."""
    return (
        gateway_spec(options, ports["gateway"]),
        worker_spec("scheduler", "scheduler", ports["scheduler"]),
        *(runner_spec(name, options, ports[name], place) for place, name in enumerate(runner_names(options.runners))),
        worker_spec("projector", "projector", ports["projector"]),
    )


def is_waited_for(kind: str) -> bool:
    """Whether a user waits for it first: for the gateway's answer, and for a runner, which imports for longest.

    >>> [kind for kind in ("gateway", "scheduler", "gpu-runner", "projector") if is_waited_for(kind)]
    ['gateway', 'gpu-runner']
    """
    return kind in ("gateway", "gpu-runner")


def restart_delay_seconds(ends_in_a_row: int) -> float:
    """The delay before a service that ended is restarted: exponential, 0.5 to 15 s.

    0.5 s is enough for a brief fault; 15 s is how long a user may wait after the cause was repaired.

    >>> [restart_delay_seconds(n) for n in (1, 2, 3, 10)]
    [0.5, 1.0, 2.0, 15.0]
    """
    return min(15.0, 0.5 * float(2 ** min(ends_in_a_row - 1, 10)))


def ending(code: int) -> str:
    """How a process ended, as text.

    >>> ending(1), ending(-9)
    ('ended with code 1', 'was killed by signal 9')
    """
    if code == EXIT_SETTINGS:
        return "cannot run with its settings"
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
