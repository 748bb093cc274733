"""The nodes that sample, whole or in parts: what each takes and gives; see `nodes`."""

from collections.abc import Mapping

from dreamforge.gateway.facades.comfyui.node_types import NodeType, chosen_from, link, number, one_of, whole

# ComfyUI's own bounds: seeds have 64 bits.
SEED_MAX, STEPS_MAX = 2**64 - 1, 10_000
SAMPLERS = frozenset(("KSampler", "KSamplerAdvanced"))

_MODEL, _CONDITIONING, _LATENT = map(link, ("MODEL", "CONDITIONING", "LATENT"))
_SAMPLING = {
    "steps": whole(20, 1, STEPS_MAX),
    "cfg": number(8.0, 0.0, 100.0),
    "sampler_name": chosen_from("samplers"),
    "scheduler": chosen_from("schedulers"),
    "positive": _CONDITIONING,
    "negative": _CONDITIONING,
    "latent_image": _LATENT,
}

SAMPLING_NODES: Mapping[str, NodeType] = {
    "KSampler": NodeType(
        "KSampler",
        "sampling",
        {"model": _MODEL, "seed": whole(0, 0, SEED_MAX), **_SAMPLING, "denoise": number(1.0, 0.0, 1.0)},
        ("LATENT",),
    ),
    "KSamplerAdvanced": NodeType(
        "KSampler (Advanced)",
        "sampling",
        {
            "model": _MODEL,
            "add_noise": one_of("enable"),
            "noise_seed": whole(0, 0, SEED_MAX),
            **_SAMPLING,
            "start_at_step": whole(0, 0, STEPS_MAX),
            "end_at_step": whole(STEPS_MAX, 0, STEPS_MAX),
            "return_with_leftover_noise": one_of("disable"),
        },
        ("LATENT",),
        note="to the last step",
    ),
    "RandomNoise": NodeType(
        "RandomNoise", "sampling/custom_sampling/noise", {"noise_seed": whole(0, 0, SEED_MAX)}, ("NOISE",)
    ),
    "KSamplerSelect": NodeType(
        "KSamplerSelect", "sampling/custom_sampling/samplers", {"sampler_name": chosen_from("samplers")}, ("SAMPLER",)
    ),
    "BasicScheduler": NodeType(
        "BasicScheduler",
        "sampling/custom_sampling/schedulers",
        {
            "model": _MODEL,
            "scheduler": chosen_from("schedulers"),
            "steps": whole(20, 1, STEPS_MAX),
            "denoise": number(1.0, 0.0, 1.0),
        },
        ("SIGMAS",),
    ),
    "BasicGuider": NodeType(
        "BasicGuider",
        "sampling/custom_sampling/guiders",
        {"model": _MODEL, "conditioning": _CONDITIONING},
        ("GUIDER",),
        note="as a cfg of 1",
    ),
    "CFGGuider": NodeType(
        "CFGGuider",
        "sampling/custom_sampling/guiders",
        {"model": _MODEL, "positive": _CONDITIONING, "negative": _CONDITIONING, "cfg": number(8.0, 0.0, 100.0)},
        ("GUIDER",),
    ),
    "SamplerCustomAdvanced": NodeType(
        "SamplerCustomAdvanced",
        "sampling/custom_sampling",
        {
            "noise": link("NOISE"),
            "guider": link("GUIDER"),
            "sampler": link("SAMPLER"),
            "sigmas": link("SIGMAS"),
            "latent_image": _LATENT,
        },
        ("LATENT", "LATENT"),
        ("output", "denoised_output"),
        note="both outputs are the finished latent",
    ),
}
