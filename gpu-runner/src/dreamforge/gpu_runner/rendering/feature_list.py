"""Which features a render has, in the order in which they act. A new one is a file in `features/` and a line here."""

import torch

from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler
from dreamforge.gpu_runner.rendering.features.clip_skip import ClipSkip
from dreamforge.gpu_runner.rendering.features.controlnet import ControlNetCache
from dreamforge.gpu_runner.rendering.features.embeddings import Embeddings
from dreamforge.gpu_runner.rendering.features.encoded_texts import EncodedTexts
from dreamforge.gpu_runner.rendering.features.fp32_fallback import Fp32Fallback
from dreamforge.gpu_runner.rendering.features.guidance import Guidance
from dreamforge.gpu_runner.rendering.features.guidance_schedule import ScheduledGuidance
from dreamforge.gpu_runner.rendering.features.initial_image import InitialImage
from dreamforge.gpu_runner.rendering.features.input_notes import InputNotes
from dreamforge.gpu_runner.rendering.features.ip_adapter import IpAdapters
from dreamforge.gpu_runner.rendering.features.latent_fill import LatentFill
from dreamforge.gpu_runner.rendering.features.lora import LoraAdapters
from dreamforge.gpu_runner.rendering.features.masked_area import AreaPutBack
from dreamforge.gpu_runner.rendering.features.memory_placement import MemoryPlacement
from dreamforge.gpu_runner.rendering.features.optimisations import Optimisations
from dreamforge.gpu_runner.rendering.features.pipeline_defaults import PipelineDefaults
from dreamforge.gpu_runner.rendering.features.previews import Previews
from dreamforge.gpu_runner.rendering.features.prompt_weights import PromptWeights
from dreamforge.gpu_runner.rendering.features.prompts import Prompts
from dreamforge.gpu_runner.rendering.features.redux import Redux
from dreamforge.gpu_runner.rendering.features.references import References
from dreamforge.gpu_runner.rendering.features.samplers import Samplers
from dreamforge.gpu_runner.rendering.features.seamless import SeamlessEdges
from dreamforge.gpu_runner.rendering.features.second_guidance import SecondGuidance
from dreamforge.gpu_runner.rendering.features.separate_texts import SeparateTexts
from dreamforge.gpu_runner.rendering.features.step_cache import StepCache
from dreamforge.gpu_runner.rendering.features.t2i_adapter import T2IAdapters
from dreamforge.gpu_runner.rendering.features.upscale import UpscalePass
from dreamforge.gpu_runner.rendering.features.vae import OtherVae
from dreamforge.gpu_runner.rendering.features.video_frames import VideoFrames
from dreamforge.gpu_runner.rendering.hooks import RenderFeature


def standard_features(
    device: torch.device, *, optimisations: tuple[str, ...] = (), compiler: BlockCompiler | None = None
) -> tuple[RenderFeature, ...]:
    """One of each, new, for one renderer on `device`; `optimisations`: those of requests that name none.

    compiler: what compiles blocks, where it is not torch's own.

    The order matters in nine places. Around a pass, memory placement is outside of the fallback, which is outside of
    the sampler's errors. What a mask protects is put back outside of the fallback, which judges what was rendered, and
    so is a tile; latents are filled inside of it, because it may render twice.
    Upscaling adds its pass after the initial image has changed the first, and embeddings change the prompts of both.
    Whatever offers prompts in a way of its own stands before `Prompts`, which takes any. A schedule's first scale
    replaces that of `Guidance`. A LoRA is laid over the projections that optimisations have put back before.
    Encoded texts hold for the encoders as all others before them have left them, and are those of single prompts.
    """
    return (
        MemoryPlacement(device),
        InitialImage(),
        UpscalePass(device),
        Fp32Fallback(),
        LatentFill(),
        Samplers(),
        Optimisations(optimisations, BlockCompiler() if compiler is None else compiler),
        LoraAdapters(),
        ControlNetCache(device),
        T2IAdapters(device),
        IpAdapters(device),
        OtherVae(device),
        Embeddings(),
        ClipSkip(),
        PromptWeights(),
        Redux(device),
        Prompts(),
        Guidance(),
        SecondGuidance(),
        ScheduledGuidance(),
        References(),
        PipelineDefaults(),
        VideoFrames(),
        Previews(),
        StepCache(),
        SeamlessEdges(),
        InputNotes(),
        AreaPutBack(),
        EncodedTexts(device),
        SeparateTexts(),
    )
