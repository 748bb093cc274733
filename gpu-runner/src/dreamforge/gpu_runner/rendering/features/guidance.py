"""How closely an image follows its prompt. Import this only in the child."""

from dreamforge.gpu_runner.rendering.guidance_keyword import guidance_keyword
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters

#: What Qwen-Image is guided away from where the request names nothing (the example on its page): without a negative
#: prompt its pipeline would not guide at all, and an empty one leaves its text encoder no token.
NOTHING = " "


class Guidance(RenderFeature):
    """`guidance_scale` of a request."""

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """The number, by the keyword of this pipeline."""
        request = context.request
        keyword = guidance_keyword(call_parameters(pipeline))
        if keyword is None:
            return {}
        guided: dict[str, object] = {keyword: request.guidance_scale}
        if keyword == "true_cfg_scale" and request.guidance_scale > 1 and not request.negative_prompt:
            return guided | {"negative_prompt": NOTHING}
        return guided
