"""A file of a model is of a kind that is only read, and its path means the same place on every system."""

import pytest

from dreamforge.contracts.models.model_files import ModelFileRefused, PickleRefused, refuse_files


@pytest.mark.parametrize(
    "path",
    [
        "../config.json", "/etc/config.json", "unet/../../config.json", "unet/./config.json", "unet//config.json",
        "unet\\config.json", "C:config.json", "unet/\x00.json", "a\nb.json", "\u202econfig.json", "", "unet/",
        ".hidden.json", "unet/.cache/config.json", "con.json", "unet/NUL.txt", "unet/a .json/ ", "unet./config.json",
        "é" * 140 + ".json", "a/" * 300 + "b.json",
        "unet/hook.py", "unet/lib.so", "model.tflite", "script.sh", "weights.onnx", "notes.pdf", "README.exe", "unet",
    ],
)  # fmt: skip
def test_another_place_or_kind_is_refused(path: str) -> None:
    with pytest.raises(ModelFileRefused):
        refuse_files([path])


def test_a_pickle_is_called_one() -> None:
    with pytest.raises(PickleRefused):
        refuse_files(["unet/model.BIN"])


@pytest.mark.parametrize("paths", [("unet/a.json", "Unet/A.json"), ("a.json", "a.json/b.json")])
def test_two_files_are_not_the_same_one_on_some_system(paths: tuple[str, ...]) -> None:
    with pytest.raises(ModelFileRefused):
        refuse_files(paths)


def test_what_models_are_made_of_is_allowed() -> None:
    refuse_files(
        ["model_index.json", "README.md", "LICENSE", "LICENSE.txt", "NOTICE", "tokenizer/merges.txt",
         "transformer/model-Q4_K_M.gguf", "tokenizer/spiece.model",
         "unet/diffusion_pytorch_model-00001-of-00002.safetensors", "scheduler/con_fig.json"]
    )  # fmt: skip
