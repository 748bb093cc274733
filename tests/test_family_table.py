"""The table of families in docs/models.md is what the code says of each."""

from pathlib import Path

from dreamforge.contracts.models.descriptor import EPSILON_SAMPLERS, FAMILY_PARAMETERS, FLOW_SAMPLERS, Parameters
from dreamforge.contracts.models.family_defaults import FAMILY_DEFAULTS, FamilyDefaults
from dreamforge.runtime.storage.pipeline_class import FAMILIES

DOCUMENT = Path(__file__).parent.parent / "docs" / "models.md"
HEAD = (
    "| family | class, without `Pipeline` | starts from | negative prompt | reference images"
    " | samplers besides its own | LoRAs | steps, guidance, side | sides |\n|---|---|---|---|---|---|---|---|---|"
)
SHARED = {"stable-diffusion-2": "StableDiffusion", "wan-ti2v": "Wan"}
MODES = {"text": "prompt", "image": "image", "inpaint": "image and mask"}


def table() -> str:
    """The table, made from the families."""
    return "\n".join((HEAD, *(row(family, able) for family, able in FAMILY_PARAMETERS.items())))


def row(family: str, able: Parameters) -> str:
    known = FAMILY_DEFAULTS[family]
    # Stable Diffusion 1 and 2 have one class, and so have two of Wan.
    classes = [name for name, of in FAMILIES.items() if of == family] or [SHARED[family]]
    cells = (
        f"`{family}`",
        ", ".join(f"`{name}`" for name in classes),
        ", ".join(MODES[mode] for mode in able.modes),
        "yes" if able.negative_prompt else "no",
        references(able),
        samplers(able),
        f"up to {able.loras_max}" if able.loras_max else "no",
        f"{known.steps}, {known.guidance_scale:g}, {usual(known)}",
        f"{known.side_px_min} to {known.side_px_max}, multiples of {known.size_multiple_px}",
    )
    return f"| {' | '.join(cells)} |"


def usual(known: FamilyDefaults) -> str:
    if known.frames is None:
        return f"{known.side_px} px"
    return f"{known.side_px} x {known.height_px} px, {known.frames} frames at {known.frames_per_second} a second"


def references(able: Parameters) -> str:
    least, most = int(able.references_needed), able.references_max
    return "no" if not most else str(most) if least == most else f"{least} to {most}"


def samplers(able: Parameters) -> str:
    names = {EPSILON_SAMPLERS: "all but those of flows", FLOW_SAMPLERS: ", ".join(FLOW_SAMPLERS)}
    return names.get(able.samplers, ", ".join(able.samplers) or "none")


def test_the_table_of_families_is_that_of_the_code() -> None:
    assert table() in DOCUMENT.read_text(), f"docs/models.md should have:\n\n{table()}"
