"""A stack is a value before it is a set of processes."""

from dreamforge.cli.stack.plan import StackOptions, restart_delay_seconds, service_names, service_specs


def test_every_service_has_a_module_an_address_and_its_own_health() -> None:
    options = StackOptions(gateway_port=8080, runners=2, renderer="synthetic")
    names = service_names(options)
    specs = service_specs(options, {name: 1000 + place for place, name in enumerate(names)})
    assert [spec.name for spec in specs] == list(names)
    assert {spec.module for spec in specs} == {
        f"dreamforge.{m}" for m in ("gateway", "scheduler", "gpu_runner", "projector")
    }
    assert len({spec.address for spec in specs}) == len(specs)
    assert specs[0].ready_url.endswith("/readyz")


def test_each_runner_has_an_id_of_its_own() -> None:
    options = StackOptions(gateway_port=1, runners=3, renderer="synthetic")
    specs = service_specs(options, dict.fromkeys(service_names(options), 1))
    runners = [spec.environment for spec in specs if spec.kind == "gpu-runner"]
    assert len({each["FORGE_RUNNER_ID"] for each in runners}) == 3
    assert {each["FORGE_RUNNER_RENDERER"] for each in runners} == {"synthetic"}


def test_pauses_grow_to_a_bound() -> None:
    pauses = [restart_delay_seconds(n) for n in range(1, 50)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15.0
