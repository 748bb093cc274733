"""The samplers of a workflow as passes of a job. Pure.

ComfyUI makes all its `steps` within the part `denoise` of the schedule, here `strength` is a part of the `steps`: so a
schedule of steps / denoise is asked for.
"""

from dataclasses import dataclass

from dreamforge.contracts.models.descriptor import SamplerName
from dreamforge.contracts.pictures.samplers import schedule_steps
from dreamforge.gateway.facades.comfyui.graph import Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused
from dreamforge.gateway.facades.comfyui.samplers import DEFAULT, SAMPLER_NAMES, sampler_of


@dataclass(frozen=True, slots=True)
class SamplerPass:
    """What a sampler does: `steps` of the whole schedule, of which the part `strength` is made; None: all of it."""

    node: Node
    seed: int
    seed_input: str
    steps: int
    cfg: float
    sampler: SamplerName | None
    strength: float | None
    strength_input: str


def read_pass(node: Node, *, starts_empty: bool) -> SamplerPass:
    """Errors: NodeRefused."""
    advanced = node.class_type == "KSamplerAdvanced"
    seed_input = "noise_seed" if advanced else "seed"
    steps, strength, strength_input = _advanced(node) if advanced else _schedule(node)
    if starts_empty and strength != 1:
        said = (
            f"is {node.inputs[strength_input]:g}, but must be {0 if advanced else 1}: from an empty latent all is made"
        )
        raise NodeRefused(node, strength_input, said)
    inputs = node.inputs
    part = None if starts_empty else strength
    return SamplerPass(node, inputs[seed_input], seed_input, steps, inputs["cfg"], _sampler(node), part, strength_input)


def second_pass(one: SamplerPass, node: Node) -> SamplerPass:
    """The pass after a latent upscale. Errors: NodeRefused for what both passes have to share."""
    two = read_pass(node, starts_empty=False)
    if node.inputs["model"] != one.node.inputs["model"]:
        raise NodeRefused(node, "model", f"must be that of node {one.node.node_id}: both passes have one model")
    if two.sampler is None and one.sampler is not None:
        said = f"is {DEFAULT!r}, but node {one.node.node_id} has another: name the sampler of this pass"
        raise NodeRefused(node, "sampler_name", said)
    return two


def _schedule(node: Node) -> tuple[int, float, str]:
    steps, denoise = node.inputs["steps"], node.inputs["denoise"]
    if denoise <= 0:
        raise NodeRefused(node, "denoise", "is 0: nothing would be rendered")
    # At 0.9999 ComfyUI makes the whole schedule.
    return (steps, 1.0, "denoise") if denoise > 0.9999 else (schedule_steps(steps, denoise), denoise, "denoise")


def _advanced(node: Node) -> tuple[int, float, str]:
    steps, start = node.inputs["steps"], node.inputs["start_at_step"]
    if node.inputs["end_at_step"] < steps:
        said = f"is {node.inputs['end_at_step']}, but must be {steps} or more: all steps are made"
        raise NodeRefused(node, "end_at_step", said)
    if start >= steps:
        raise NodeRefused(node, "start_at_step", f"is {start}, but must be less than steps ({steps})")
    return steps, (steps - start) / steps, "start_at_step"


def _sampler(node: Node) -> SamplerName | None:
    name, scheduler = node.inputs["sampler_name"], node.inputs["scheduler"]
    if name not in SAMPLER_NAMES:
        said = f"{name[:80]!r} not in {list(SAMPLER_NAMES)}"
        raise NodeRefused(node, "sampler_name", said, "value_not_in_list")
    try:
        return sampler_of(name, scheduler)
    except KeyError as error:
        said = f"{scheduler[:80]!r} is not one of {name!r} here, which are: {error.args[0]}"
        raise NodeRefused(node, "scheduler", said, "value_not_in_list") from None
