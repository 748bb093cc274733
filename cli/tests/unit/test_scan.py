"""A folder of models of another program is listed as what it is, without reading weights or pickles."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dreamforge.cli.main import app
from dreamforge.cli.models import scan as scanning
from dreamforge.cli.models.scan import FoundModel, TooManyEntries, layout_of, scan
from dreamforge.runtime.testing.model_files import (
    CHECKPOINT,
    LORA,
    WEIGHTS,
    write_json,
    write_pipeline,
    write_safetensors,
)

EMBEDDING = {"emb_params": (2, 768)}
CONTROL = {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}


def found(folder: Path) -> dict[str, FoundModel]:
    return {each.path.relative_to(folder).as_posix(): each for each in scan(folder)}


def kinds(folder: Path) -> dict[str, tuple[str, bool]]:
    """Kind, and whether it can be registered."""
    return {path: (each.kind, not each.problem) for path, each in found(folder).items()}


def test_comfyui(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_safetensors(models / "checkpoints" / "SD" / "base.safetensors", CHECKPOINT)
    write_safetensors(models / "loras" / "ink.safetensors", LORA)
    write_safetensors(models / "vae" / "fine.safetensors", WEIGHTS["vae"])
    write_safetensors(models / "embeddings" / "bad.safetensors", EMBEDDING)
    write_safetensors(models / "controlnet" / "canny.safetensors", CONTROL)
    (models / "loras" / "ink.preview.png").write_bytes(b"x")
    (models / "upscale_models").mkdir()
    (models / "upscale_models" / "4x.pth").write_bytes(b"\x80\x02never read")
    assert layout_of(tmp_path) == layout_of(models) == "ComfyUI"
    assert kinds(models) == {
        "checkpoints/SD/base.safetensors": ("checkpoint", True),
        "controlnet/canny.safetensors": ("controlnet", False),
        "embeddings/bad.safetensors": ("embedding", True),
        "loras/ink.safetensors": ("lora", True),
        "upscale_models/4x.pth": ("upscaler", False),
        "vae/fine.safetensors": ("vae", False),
    }
    assert "pickle" in found(models)["upscale_models/4x.pth"].problem
    lora = found(models)["loras/ink.safetensors"]
    assert (lora.family, lora.size_bytes) == ("stable-diffusion", lora.path.stat().st_size)


def test_a_vae_in_one_file_is_added_with_its_family(tmp_path: Path) -> None:
    sides = [f"{side}.{end}.weight" for side in ("encoder", "decoder") for end in ("conv_in", "conv_out")]
    write_safetensors(tmp_path / "vae" / "fine.safetensors", dict.fromkeys(sides, (8, 8)))
    one = found(tmp_path)["vae/fine.safetensors"]
    assert (one.kind, one.family) == ("vae", None)
    assert "--family" in one.problem


def test_a1111_and_swarmui_differ_in_a_letter(tmp_path: Path) -> None:
    webui, swarm = tmp_path / "webui", tmp_path / "swarm"
    write_safetensors(webui / "models" / "Stable-diffusion" / "a.safetensors", CHECKPOINT)
    (webui / "embeddings").mkdir()
    (webui / "embeddings" / "easy.pt").write_bytes(b"\x80\x02")
    write_safetensors(swarm / "Models" / "Stable-Diffusion" / "a.safetensors", CHECKPOINT)
    write_safetensors(swarm / "Models" / "Lora" / "l.safetensors", LORA)
    assert (layout_of(webui), layout_of(swarm)) == ("A1111 or Forge", "SwarmUI")
    assert kinds(webui) == {
        "embeddings/easy.pt": ("embedding", False),
        "models/Stable-diffusion/a.safetensors": ("checkpoint", True),
    }
    assert kinds(swarm)["Models/Lora/l.safetensors"] == ("lora", True)


def test_invokeai_with_folders_of_parts(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "models" / "sd-1" / "main" / "dream")
    control = tmp_path / "models" / "sd-1" / "controlnet" / "canny"
    write_json(control / "config.json", {"_class_name": "ControlNetModel", "cross_attention_dim": 768})
    write_safetensors(control / "diffusion_pytorch_model.safetensors", WEIGHTS["vae"])
    write_safetensors(tmp_path / "models" / "0a1b-key" / "style.safetensors", LORA)  # as InvokeAI 6 keeps them
    assert layout_of(tmp_path) == "InvokeAI"
    assert kinds(tmp_path) == {
        "models/0a1b-key/style.safetensors": ("lora", True),
        "models/sd-1/controlnet/canny": ("controlnet", True),
        "models/sd-1/main/dream": ("pipeline", True),
    }


def test_the_cache_of_the_hub(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--acme--tiny"
    write_pipeline(repository / "snapshots" / "c0ffee")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    write_json(tmp_path / "hub" / "models--acme--text" / "snapshots" / "1" / "config.json", {"model_type": "bert"})
    assert layout_of(tmp_path) == layout_of(tmp_path / "hub") == "Hugging Face cache"
    assert kinds(tmp_path) == {
        "hub/models--acme--text": ("unknown", False),
        "hub/models--acme--tiny": ("pipeline", True),
    }
    assert found(tmp_path)["hub/models--acme--tiny"].size_bytes > 0


def test_a_link_to_nothing_and_a_damaged_file_are_listed(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loras" / "short.safetensors").write_bytes(b"\0")
    assert all(each.kind == "lora" and each.problem for each in found(tmp_path).values())
    assert len(found(tmp_path)) == 2


def test_a_folder_of_everything_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "ENTRIES_MAX", 3)
    for name in "abcd":
        (tmp_path / name).mkdir()
    with pytest.raises(TooManyEntries, match="name the folder"):
        list(scan(tmp_path))


def test_the_command_lists_as_table_and_as_json(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "loras" / "ink.safetensors", LORA)
    write_safetensors(tmp_path / "vae" / "v.safetensors", WEIGHTS["vae"])
    shown = CliRunner().invoke(app, ["models", "scan", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "loras/ink.safetensors" in shown.output
    asked = CliRunner().invoke(app, ["models", "scan", str(tmp_path), "--kind", "lora", "--hash", "--json"])
    (row,) = json.loads(asked.output)["models"]
    assert (row["path"], row["kind"], row["problem"]) == ("loras/ink.safetensors", "lora", "")
    assert row["sha256"] == scanning.sha256_of(path)
