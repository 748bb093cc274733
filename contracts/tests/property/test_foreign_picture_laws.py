"""Texts of strangers: whatever is in them, reading ends, raises nothing, and gives a bounded value."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.pictures.exif import MODEL, USER_COMMENT
from dreamforge.contracts.pictures.foreign.imported import (
    LORAS_READ_MAX,
    PROMPT_CHARS_MAX,
    UNMAPPED_MAX,
    VALUE_CHARS_MAX,
)
from dreamforge.contracts.pictures.foreign.read import read_request
from dreamforge.contracts.pictures.metadata import PictureMetadata

NAMES = st.sampled_from(
    [
        *("prompt", "full_prompt", "steps", "seed", "loras", "loraweights", "model", "base_model", "image", "inputs"),
        *("class_type", "latent_image", "positive", "negative", "guider", "text", "images", "samples", "uc", "width"),
        *("sui_image_params", "sui_models", "upscale", "control", "model_id", "v4_prompt", "caption", "char_captions"),
        *("refinerupscale", "refinercontrolpercentage", "resolution", "lora_combined_1", "1", "2", "sampler"),
        *("clip_skip", "clipstopatlayer", "stop_at_clip_layer", "scale_by", "denoise", "positive_prompt", "Comment"),
    ]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NAMES
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=30
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=10)
GRAPHS = st.dictionaries(
    st.sampled_from(["1", "2", "3", "4"]),
    st.fixed_dictionaries(
        {
            "class_type": st.sampled_from(["KSampler", "SaveImage", "CLIPTextEncode", "LoadImage"]),
            "inputs": st.dictionaries(
                NAMES, st.tuples(st.sampled_from(["1", "2", "3", "4", "9"]), st.just(0)) | PLAIN, max_size=8
            ),
        }
    ),
    max_size=4,
)
KEYS = st.sampled_from(
    ["prompt", "parameters", "dreamforge", "invokeai_metadata", "sd-metadata", "Dream", "Comment", "Software"]
)
INFOTEXT = st.text(st.sampled_from('ab<lora:x>\n,:"{[]} 1.5Steps Seed'), max_size=60)
TEXTS = st.one_of(OBJECTS.map(json.dumps), GRAPHS.map(json.dumps), INFOTEXT, st.text(max_size=20))


@given(st.dictionaries(KEYS, TEXTS, max_size=4), TEXTS, INFOTEXT)
def test_reading_ends_with_a_bounded_value(texts, comment, prompt):
    tail = "\nSteps: 1, Seed: 2, Size: 8x8, " + prompt.replace("\n", "")
    for found in (
        read_request(PictureMetadata("image/png", texts)),
        read_request(PictureMetadata("image/png", {"parameters": prompt + tail})),
        read_request(PictureMetadata("image/webp", exif={MODEL: b"prompt:" + comment.encode("utf-8", "replace")})),
        read_request(PictureMetadata("image/jpeg", exif={USER_COMMENT: comment.encode("utf-8", "replace")})),
    ):
        if found is None:
            continue
        json.dumps(found.fields, allow_nan=False)
        assert len(found.unmapped) <= UNMAPPED_MAX + 1
        assert all(len(each.value) <= VALUE_CHARS_MAX for each in found.unmapped)
        assert len(found.loras) <= LORAS_READ_MAX
        assert len(found.fields.get("prompt", "")) <= 2 * PROMPT_CHARS_MAX


def test_a_wide_and_deep_graph_is_read_in_bounded_time():
    graph = {
        str(number): {"class_type": "KSampler", "inputs": {"latent_image": [str(number + 1), 0], "positive": ["0", 0]}}
        for number in range(1_000_000 // 1000)
    }
    assert read_request(PictureMetadata("image/png", {"prompt": json.dumps(graph)})) is None
    nested = "[" * 100_000
    assert read_request(PictureMetadata("image/png", {"prompt": '{"a":' + nested, "parameters": nested})) is None
    assert (
        read_request(PictureMetadata("image/png", {"parameters": f"x\nSteps: 1, Size: 8x8, Seed: {nested}"}))
        is not None
    )
