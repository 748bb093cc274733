"""The tools, as agents read them. What a job may set is the document of our own API: one declaration."""

from typing import Any

import mcp_types as types

from dreamforge.contracts.jobs.course import Status

Schema = dict[str, Any]  # Any: JSON Schema
JOB_ID: Schema = {"type": "string", "description": "The job_id that generate_image answered, a UUID."}
PARAMETERS: Schema = {
    "type": "object",
    "description": "Other fields of a job, such as seed, steps, negative_prompt, width_px, height_px, images, preset, "
    "sampler, loras. list_models has the schema of each model.",
}
KEY: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "description": "A name of your own for this call. A repeat with the same name answers the job of the first call "
    "and renders nothing again, so use it whenever you may have to try again.",
}
WAIT: Schema = {
    "type": "boolean",
    "default": True,
    "description": "Wait for the images. With false the answer is the job_id at once; get_job has the images later.",
}
IMAGE: Schema = {
    "type": "string",
    "description": "An image by its SHA-256 (of an upload, or of an earlier result), or its bytes in base64.",
}


def _tool(name: str, title: str, description: str, properties: Schema, *required: str, **hints: bool) -> types.Tool:
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    hints = {"read_only_hint": False, "destructive_hint": False, "open_world_hint": False, **hints}
    return types.Tool(
        name=name,
        title=title,
        description=description,
        input_schema=schema,
        annotations=types.ToolAnnotations(title=title, **hints),
    )


TOOLS: tuple[types.Tool, ...] = (
    _tool(
        "list_models",
        "List models",
        "The models that can render, each with its presets and the JSON Schema of its parameters.",
        {"model_id": {"type": "string", "description": "Only this model."}},
        read_only_hint=True,
    ),
    _tool(
        "generate_image",
        "Generate images",
        "Render images from a prompt. Answers the images, the job_id and the seed of each image.",
        {
            "prompt": {"type": "string", "minLength": 1, "description": "What the image shows."},
            "model_id": {"type": "string", "description": "Default: the installation's first model."},
            "parameters": PARAMETERS,
            "wait": WAIT,
            "idempotency_key": KEY,
        },
        "prompt",
    ),
    _tool(
        "edit_image",
        "Edit an image",
        "Render an image anew, as a whole or where a mask is white.",
        {
            "prompt": {"type": "string", "minLength": 1, "description": "What the image shall show."},
            "image": IMAGE,
            "mask": {**IMAGE, "description": IMAGE["description"] + " What is white is rendered again."},
            "strength": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 1,
                "description": "How much of the image is rendered again.",
            },
            "model_id": {"type": "string", "description": "Default: the installation's first model."},
            "parameters": PARAMETERS,
            "wait": WAIT,
            "idempotency_key": KEY,
        },
        *("prompt", "image"),
    ),
    _tool(
        "get_job",
        "Look at a job",
        "The state of a job, and its images as far as they are finished.",
        {"job_id": JOB_ID, "images": {"type": "boolean", "default": True, "description": "With the images."}},
        "job_id",
        read_only_hint=True,
    ),
    _tool(
        "find_jobs",
        "Find jobs",
        "Jobs, newest first.",
        {
            "status": {"type": "string", "enum": [status.value for status in Status]},
            "model_id": {"type": "string"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 20},
            "cursor": {"type": "string", "description": "next_cursor of the answer before."},
        },
        read_only_hint=True,
    ),
    _tool(
        "cancel_job",
        "Cancel a job",
        "Stop a job in any state; images that are finished stay.",
        {"job_id": JOB_ID},
        "job_id",
        destructive_hint=True,
        idempotent_hint=True,
    ),
    _tool(
        "explain_job",
        "Explain a job",
        "Why a job waits, or why its runner was chosen.",
        {"job_id": JOB_ID},
        "job_id",
        read_only_hint=True,
    ),
)
SCHEMAS = {tool.name: tool.input_schema for tool in TOOLS}
