"""What a quantised part needs is named where it is missing, and one file of a network is found by what lies there."""

import struct
from pathlib import Path

import pytest

from dreamforge.runtime.storage.quantised import class_problem, gguf_tensors, network_file, quantiser_problem


def only(*modules: str):  # type: ignore[no-untyped-def]  # a stand-in for find_spec
    return lambda module: module if module in modules else None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, a quantiser that is not installed"),
        ({"load_in_8bit": True}, "bitsandbytes, a quantiser that is not installed"),
        ({"quant_method": "sdnq"}, "sdnq, a quantiser that is not installed"),
        ({"quant_method": "torchao"}, "torchao, a quantiser that is not installed"),
        ({"quant_method": "svdquant"}, "svdquant, which the renderer does not read"),
        ({"bits": 3}, "a method that it does not name, which the renderer does not read"),
    ],
)
def test_a_quantiser_that_is_not_installed_is_named(settings: dict[str, object], says: str) -> None:
    problem = quantiser_problem({"quantization_config": settings}, only("diffusers"))
    assert problem is not None
    assert says in problem[0]
    assert "float16, bfloat16 or float32" in problem[1]


@pytest.mark.parametrize("method", ["bitsandbytes", "sdnq", "torchao"])
def test_a_quantiser_that_is_an_extra_of_the_runner_is_said_as_one(method: str) -> None:
    problem = quantiser_problem({"quantization_config": {"quant_method": method}}, only("diffusers"))
    assert problem is not None
    assert f'install "dreamforge-gpu-runner[{method}]"' in problem[1]
    quanto = quantiser_problem({"quantization_config": {"quant_method": "quanto"}}, only("diffusers"))
    assert quanto is not None
    assert "install optimum-quanto where" in quanto[1]


def test_a_quantiser_that_is_installed_is_no_problem_and_without_diffusers_a_runner_judges() -> None:
    part = {"quantization_config": {"quant_method": "bitsandbytes"}}
    assert quantiser_problem(part, only("diffusers", "bitsandbytes")) is None
    assert quantiser_problem(part, only()) is None
    assert quantiser_problem({}, only()) is None


def test_a_class_that_needs_a_library_says_which() -> None:
    assert class_problem("Qwen2VLProcessor", only("diffusers")) == (
        "(Qwen2VLProcessor) needs torchvision, which is not installed",
        "install the torchvision of your torch beside it",
    )
    assert class_problem("Qwen2VLProcessor", only("diffusers", "torchvision")) is None
    assert class_problem("Qwen2Tokenizer", only("diffusers")) is None


@pytest.mark.parametrize(
    ("part", "names", "expected"),
    [
        ("transformer", ["config.json", "flux1-dev-Q4_K_S.gguf"], "flux1-dev-Q4_K_S.gguf"),
        ("unet", ["config.json", "dreamshaper.safetensors"], "dreamshaper.safetensors"),
        ("transformer", ["diffusion_pytorch_model.safetensors"], None),
        ("transformer", ["a.gguf", "b.gguf"], None),
        ("vae", ["vae.safetensors"], None),
    ],
)
def test_one_file_of_a_network_is_found_by_its_name(part: str, names: list[str], expected: str | None) -> None:
    assert network_file(part, names) == expected


def test_the_head_of_a_gguf_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 2, 0) + b"\0" * 76)
    assert sum(each.size_bytes for each in gguf_tensors(file).values()) == 100
    for content, says in (
        (b"GGUF", "does not start as one"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 2, 0), "its version is 1"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "no weights"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=says):
            gguf_tensors(file)
