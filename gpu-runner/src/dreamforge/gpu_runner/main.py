"""The runner's supervisor process."""

from dreamforge.contracts.log.permissions import runner_user
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.supervisor import Supervisor
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.remote.objects import RemoteObjects
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.tls.client_context import client_context


async def start(settings: RunnerSettings, lifetime: Lifetime) -> None:
    """Connect, then take assignments. When told to stop, attempts are drained and the stop is recorded first."""
    objects = _objects(settings)
    if isinstance(objects, RemoteObjects):
        lifetime.on_close(objects.close)
    user = runner_user(settings.runner_id)
    bus = await open_log(settings, f"{SERVICE.name}-{settings.runner_id}", user=user)
    lifetime.on_close(bus.close)
    context = client_context(settings.nats_ca_file, "FORGE_NATS_CA_FILE")
    lifetime.ready_when("nats", LogProbe(bus, user, settings.nats_monitor_urls, context).check)
    supervisor = Supervisor(settings, bus, objects)
    lifetime.ready_when("child", supervisor.check)
    lifetime.ready_when("s3", supervisor.bucket.check)
    await supervisor.start(lifetime)


def _objects(settings: RunnerSettings) -> ObjectStore | RemoteObjects:
    """The store itself, or a gateway between where the runner does not reach it. Errors: InvalidSettings."""
    if not settings.runner_objects_url:
        return ObjectStore(settings)
    url, seed_file, ca_file = settings.runner_objects_url, settings.nats_seed_file, settings.nats_ca_file
    return RemoteObjects(url, settings.runner_id, seed_file, ca_file)


SERVICE = shell.Service(
    "gpu-runner",
    RunnerSettings,
    start,
    {"nats": "not connected", "s3": "not asked yet", "child": "the renderer is not up"},
)


def main() -> None:
    """The body of `python -m dreamforge.gpu_runner`."""
    shell.main(SERVICE)
