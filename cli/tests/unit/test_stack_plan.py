"""A stack is a value before it is a set of processes."""

import pytest

from dreamforge.cli.failure import CommandError
from dreamforge.cli.stack.plan import StackOptions, restart_delay_seconds, service_names, service_specs
from dreamforge.cli.stack.runners import runner_count


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


def environments(options: StackOptions) -> list[dict[str, str]]:
    specs = service_specs(options, dict.fromkeys(service_names(options), 1))
    return [dict(spec.environment) for spec in specs if spec.kind == "gpu-runner"]


def test_each_gpu_has_a_runner_that_sees_no_other() -> None:
    made = environments(StackOptions(gateway_port=1, runners=2, gpus=(0, 3)))
    assert [each["FORGE_RUNNER_GPU_INDEX"] for each in made] == ["0", "3"]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in made] == ["0", "3"]
    assert [each["FORGE_RUNNER_ID"] for each in made] == ["local-1", "local-2"]
    assert {each["FORGE_RUNNER_DEVICE_SHARES"] for each in made} == {"1"}


def test_runners_without_a_gpu_share_the_memory_of_the_machine() -> None:
    assert {each["FORGE_RUNNER_DEVICE_SHARES"] for each in environments(StackOptions(1, runners=2))} == {"2"}
    assert "FORGE_RUNNER_DEVICE_SHARES" not in environments(StackOptions(1))[0]


def test_more_runners_than_the_gpus_take_are_refused_with_what_to_set() -> None:
    assert runner_count(0, (0, 1), 1) == 2
    assert runner_count(4, (0, 1), 2) == 4
    with pytest.raises(CommandError) as refused:
        runner_count(3, (0, 1), 1)
    assert "room for 2" in str(refused.value)
    assert "FORGE_RUNNER_DEVICE_SHARES" in refused.value.hint


def test_pauses_grow_to_a_bound() -> None:
    pauses = [restart_delay_seconds(n) for n in range(1, 50)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15.0
