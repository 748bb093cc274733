"""Every message survives its way over the wire, and nothing else is taken for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol import messages
from dreamforge.gpu_runner.protocol.frames import Frame, FrameDecoder, encode_frame
from dreamforge.gpu_runner.protocol.messages import (
    BadMessage,
    from_child_from_frame,
    to_child_from_frame,
    to_frame,
)
from dreamforge.gpu_runner.protocol.recipe import Engine, Recipe
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask

text = st.text(max_size=40)
name = st.text(min_size=1, max_size=20)
sha256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
seconds = st.floats(0, 1e9, allow_nan=False)
seed = st.integers(0, 2**53 - 1)
side = st.integers(8, 8192)

token = st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True)
files = st.builds(ModelFiles, path=text, digest=sha256)
requests = st.builds(
    RenderRequest,
    model_id=token,
    preset=token,
    prompt=text,
    negative_prompt=text,
    width_px=side,
    height_px=side,
    steps=st.integers(1, 1000),
    guidance_scale=st.floats(0, 100),
    seed=seed,
    images=st.integers(1, 5),
    sampler=st.sampled_from([None, "ddim", "euler"]),
)
tasks = st.builds(
    RenderTask, task_id=name, request=requests, model=files, assets=st.dictionaries(token, files, max_size=2)
)
versions = st.dictionaries(name, text, max_size=3)
engines = st.builds(
    Engine,
    renderer=st.sampled_from(["diffusers", "synthetic"]),
    device=st.sampled_from(["cpu", "cuda"]),
    device_name=text,
    dtype=text,
    threads=st.integers(1, 99),
    versions=versions,
)
recipes = st.builds(
    Recipe,
    renderer=st.sampled_from(["diffusers", "synthetic"]),
    prompt=text,
    negative_prompt=text,
    seed=seed,
    width_px=side,
    height_px=side,
    steps=st.integers(1, 1000),
    guidance_scale=st.floats(0, 100),
    sampler=text,
    model_id=name,
    model_digest=sha256,
    pipeline=text,
    device=st.sampled_from(["cpu", "cuda"]),
    device_name=text,
    dtype=text,
    threads=st.integers(1, 99),
    versions=versions,
)
to_child = st.one_of(
    st.builds(messages.Load, model_id=name, path=text, digest=sha256),
    st.builds(messages.Render, tasks=st.lists(tasks, min_size=1, max_size=3).map(tuple)),
    st.builds(messages.Cancel, task_id=name),
    st.just(messages.Stop()),
)
from_child = st.one_of(
    st.builds(messages.Starting, stage=st.sampled_from(["import", "device"]), elapsed_seconds=seconds),
    st.builds(
        messages.Ready, engine=engines, total_bytes=st.integers(0), free_bytes=st.integers(0), driver=text, note=text
    ),
    st.builds(messages.Loading, model_id=name),
    st.builds(messages.ModelLoaded, model_id=name, seconds=seconds, bytes=st.integers(0)),
    st.builds(messages.Unloaded, model_id=name),
    st.builds(messages.LoadFailed, model_id=name, reason=st.sampled_from(FailureReason), message=text),
    st.builds(
        messages.StepDone,
        task_id=name,
        image_index=st.integers(0),
        step=st.integers(1),
        steps=st.integers(1),
        elapsed_seconds=seconds,
    ),
    st.builds(
        messages.Image,
        task_id=name,
        image_index=st.integers(0),
        sha256=sha256,
        width_px=side,
        height_px=side,
        recipe=recipes,
        timings=st.builds(messages.Timings, render_seconds=seconds, encode_seconds=seconds),
        body=st.binary(max_size=100),
    ),
    st.builds(messages.Done, task_id=name, seconds=seconds, peak_bytes=st.integers(0)),
    st.builds(
        messages.Failed,
        task_id=name,
        reason=st.sampled_from(FailureReason),
        message=text,
        retryable=st.booleans(),
    ),
    st.builds(messages.Cancelled, task_id=name),
)


def over_the_wire(message: messages.ToChild | messages.FromChild) -> Frame:
    (frame,) = FrameDecoder().feed(encode_frame(to_frame(message)))
    return frame


@given(to_child)
def test_what_is_said_to_the_child_arrives(message: messages.ToChild) -> None:
    assert to_child_from_frame(over_the_wire(message)) == message


@given(from_child)
def test_what_the_child_says_arrives(message: messages.FromChild) -> None:
    assert from_child_from_frame(over_the_wire(message)) == message


@pytest.mark.parametrize(
    "header", [b"", b"{", b"[]", b'{"kind": "nothing"}', b'{"task_id": "t"}', b'{"kind": "done", "task_id": "t"}']
)
def test_anything_else_is_not_a_message(header: bytes) -> None:
    with pytest.raises(BadMessage):
        from_child_from_frame(Frame(header))


def test_a_field_that_nobody_knows_is_refused() -> None:
    header = json.dumps({"kind": "cancel", "task_id": "t", "more": 1}).encode()
    with pytest.raises(BadMessage):
        to_child_from_frame(Frame(header))


def test_only_an_image_has_a_body() -> None:
    with pytest.raises(BadMessage):
        from_child_from_frame(Frame(to_frame(messages.Cancelled(task_id="t")).header, b"more"))
