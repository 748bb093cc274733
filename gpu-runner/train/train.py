"""Trains the model and exports it: one command, seeded, resumable, on a GPU if there is one.

    python gpu-runner/train/train.py --config gpu-runner/train/configs/cpu.toml --work FOLDER --out models/forge-shapes

`--work` keeps checkpoints; the same command again continues from them. `--pause-file` names a file that stops
the work for as long as it exists, for a machine that is shared.
"""

import argparse
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import autoencoder
import denoiser
import torch
from export import export
from grammar import Mix
from judge import judge
from paint import paint
from patches import Basis, compute_basis, load_basis
from safetensors.torch import load_file, save_file
from scoring import Score, held_out_captions
from settings import Settings, load_settings

from dreamforge.runtime.clock import monotonic_seconds

#: How often a paused run looks whether it may go on, and a running one writes a line.
PAUSE_POLL_S, LOG_EVERY = 0.5, 50


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run keeps its files, when it must stop (seconds of the monotonic clock), and what pauses it."""

    work: Path
    deadline_s: float
    pause_file: Path | None

    def may_go_on(self) -> bool:
        """Wait while paused; False once the time is up."""
        while self.pause_file is not None and self.pause_file.exists():
            threading.Event().wait(PAUSE_POLL_S)
        return monotonic_seconds() < self.deadline_s


def train_denoiser(settings: Settings, basis: Basis, device: torch.device, place: Place) -> denoiser.Training:
    """Train until the steps or the time are used up; a checkpoint is on disk when this returns."""
    path = place.work / "denoiser.safetensors"
    run = denoiser.begin(settings, basis, device)
    if path.exists():
        denoiser.restore(run, path)
    while run.step < settings.steps and place.may_go_on():
        denoiser.advance(run)
        if run.step % LOG_EVERY == 0:
            _say(f"denoiser {run.step} loss {sum(run.losses[-LOG_EVERY:]) / len(run.losses[-LOG_EVERY:]):.4f}")
        if run.step % settings.save_every == 0:
            denoiser.save(run, path)
        if run.step % settings.score_every == 0:
            _say(f"denoiser {run.step} held-out {score_now(run).line()}")
    denoiser.save(run, path)
    return run


def score_now(run: denoiser.Training) -> Score:
    """Held-out captions painted by the averaged weights, without the trained decoder."""
    s = run.settings
    captions = held_out_captions(s.score_captions, s.seed, Mix())
    pictures = paint(run.averaged, run.basis, [caption.text() for caption in captions], s.max_tokens, s.seed)
    score = Score()
    for caption, picture in zip(captions, pictures, strict=True):
        score.add(judge(caption, picture))
    return score


def train_autoencoder(
    settings: Settings, basis: Basis, device: torch.device, place: Place
) -> autoencoder.AutoencoderTraining:
    """Train it once; a finished one is read back from the work folder."""
    path = place.work / "autoencoder.safetensors"
    run = autoencoder.begin(settings, basis, device)
    if path.exists():
        run.model.load_state_dict(load_file(str(path)))
        return run
    while run.step < settings.autoencoder_steps and place.may_go_on():
        error = autoencoder.advance(run)
        if run.step % LOG_EVERY == 0:
            _say(f"autoencoder {run.step} error {error:.5f}")
    save_file({name: tensor.contiguous() for name, tensor in run.model.state_dict().items()}, str(path))
    return run


def _basis(settings: Settings, work: Path) -> Basis:
    path = work / "basis.safetensors"
    if not path.exists():
        compute_basis(settings.latent_channels, settings.seed).save(path)
    return load_basis(path)


def _device(name: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _say(line: str) -> None:
    sys.stdout.write(f"{monotonic_seconds():.0f} s  {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Train both parts, export the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="checkpoints; continue from what is there")
    parser.add_argument("--out", type=Path, help="export the diffusers folder to this place")
    parser.add_argument("--pause-file", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop the denoiser after this time")
    given = parser.parse_args()
    settings = load_settings(given.config)
    torch.set_num_threads(settings.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    device, basis = _device(settings.device), _basis(settings, given.work)
    place = Place(given.work, monotonic_seconds() + 60 * given.minutes, given.pause_file)
    run = train_denoiser(settings, basis, device, place)
    patient = Place(given.work, float("inf"), given.pause_file)
    decoder = train_autoencoder(settings, basis, device, patient)
    if given.out:
        export(run.averaged, decoder.model, settings, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
