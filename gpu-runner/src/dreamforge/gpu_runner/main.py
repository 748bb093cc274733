"""The runner's supervisor process."""

from dreamforge.contracts.log.permissions import runner_user
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.supervisor import Supervisor
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.storage.objects import ObjectStore


async def start(settings: RunnerSettings, lifetime: Lifetime) -> None:
    """Connect, then take assignments. When told to stop, attempts are drained and the stop is recorded first."""
    objects = ObjectStore(settings)
    user = runner_user(settings.runner_id)
    bus = await open_log(settings, f"{SERVICE.name}-{settings.runner_id}", user=user)
    lifetime.on_close(bus.close)
    lifetime.ready_when("nats", LogProbe(bus, user, settings.nats_monitor_urls).check)
    supervisor = Supervisor(settings, bus, objects)
    lifetime.ready_when("child", supervisor.check)
    lifetime.ready_when("s3", supervisor.bucket.check)
    await supervisor.start(lifetime)


SERVICE = shell.Service(
    "gpu-runner",
    RunnerSettings,
    start,
    {"nats": "not connected", "s3": "not asked yet", "child": "the renderer is not up"},
)


def main() -> None:
    """The body of `python -m dreamforge.gpu_runner`."""
    shell.main(SERVICE)
