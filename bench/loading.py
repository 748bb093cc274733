"""How fast weights come into memory, by the ways there are to read safetensors: from the disk, and from the page cache.

Files of random bfloat16 weights, in shards, as a model of that size has them. Cold: dropped from the page cache before.
Every way ends with tensors in memory of this process. Where a GPU is, tensors are moved there as well.

Usage: python -m bench.loading [--gib 1.5] [--rounds 3]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import safetensors.torch
import torch
from bench.timing import clock

from dreamforge.gpu_runner.machine.page_cache import read_ahead

SHARDS, TENSORS = 3, 32
Load = Callable[[Sequence[Path]], list[torch.Tensor]]


def by_mapping(files: Sequence[Path]) -> list[torch.Tensor]:
    """As diffusers and transformers do: map the file, and copy each tensor when it is put in its place."""
    return [tensor.clone() for file in files for tensor in safetensors.torch.load_file(file).values()]


def by_reading(files: Sequence[Path]) -> list[torch.Tensor]:
    """Read the whole file, then take it apart: twice the memory for a moment."""
    return [tensor for file in files for tensor in safetensors.torch.load(file.read_bytes()).values()]


def by_reading_into_place(files: Sequence[Path]) -> list[torch.Tensor]:
    """Read the file into one tensor, of which the others would be views."""
    found = []
    for file in files:
        whole = torch.empty(file.stat().st_size, dtype=torch.uint8)
        with file.open("rb", buffering=0) as opened:
            view, done = memoryview(whole.numpy().data), 0
            while count := opened.readinto(view[done:]):
                done += count
        found.append(whole)
    return found


def by_advice(files: Sequence[Path]) -> list[torch.Tensor]:
    """Tell the kernel (POSIX_FADV_WILLNEED), then map."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    return by_mapping(files)


def by_parallel_reading(files: Sequence[Path]) -> list[torch.Tensor]:
    """Four readers into the page cache (what the runner does), then map."""
    read_ahead(files, limit_bytes=1 << 40)
    return by_mapping(files)


def by_mapping_beside_readers(files: Sequence[Path]) -> list[torch.Tensor]:
    """What happens when a model is needed at once: the readers run ahead of what the mapping asks for."""
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(read_ahead, files, limit_bytes=1 << 40)
        found = by_mapping(files)
        reading.result()
    return found


def by_streamer(files: Sequence[Path]) -> list[torch.Tensor]:
    """NVIDIA's Run:ai Model Streamer, where it is installed."""
    from runai_model_streamer import SafetensorsStreamer

    found = []
    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(file) for file in files])
        found += [tensor.clone() for _, tensor in streamer.get_tensors()]
    return found


def by_fastsafetensors(files: Sequence[Path]) -> list[torch.Tensor]:
    """IBM's fastsafetensors without GPUDirect, where it is installed."""
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), torch.device("cpu"), nogds=True)
    loader.add_filenames({0: [str(file) for file in files]})
    buffer = loader.copy_files_to_device()
    try:
        return [buffer.get_tensor(name).clone() for name in loader.get_keys()]
    finally:
        buffer.close()
        loader.close()


#: Libraries that a measurement may have, and no installation of ours: `pip install` them to compare.
OPTIONAL = {"Run:ai Model Streamer": "runai_model_streamer", "fastsafetensors": "fastsafetensors"}
WAYS: dict[str, Load] = {
    "mapped (safetensors)": by_mapping,
    "read whole, taken apart": by_reading,
    "read into place": by_reading_into_place,
    "WILLNEED, then mapped": by_advice,
    "4 readers, then mapped": by_parallel_reading,
    "mapped, 4 readers beside": by_mapping_beside_readers,
    "Run:ai Model Streamer": by_streamer,
    "fastsafetensors": by_fastsafetensors,
}


def written(folder: Path, size_bytes: int) -> list[Path]:
    """The shards."""
    elements = size_bytes // (SHARDS * TENSORS * 2)
    files = []
    for number in range(SHARDS):
        tensors = {f"weight.{number}.{index}": torch.randn(elements).to(torch.bfloat16) for index in range(TENSORS)}
        files.append(folder / f"model-{number}.safetensors")
        safetensors.torch.save_file(tensors, files[-1])
        with files[-1].open("rb") as opened:
            os.fsync(opened.fileno())
    return files


def drop(files: Sequence[Path]) -> None:
    """Out of the page cache: only clean pages that nobody maps leave, so files are synced and tensors gone before."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_of(load: Load, files: Sequence[Path]) -> float:
    """One load."""
    began = clock()
    tensors = load(files)
    if torch.cuda.is_available():
        tensors = [tensor.to("cuda") for tensor in tensors]
        torch.cuda.synchronize()
    return clock() - began


def main(arguments: argparse.Namespace) -> int:
    """Every way in turns: cold, then warm."""
    torch.set_num_threads(1)
    ways = {name: load for name, load in WAYS.items() if name not in OPTIONAL or find_spec(OPTIONAL[name])}
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as text:
        files = written(Path(text), int(arguments.gib * 2**30))
        gib = sum(file.stat().st_size for file in files) / 2**30
        for _ in range(arguments.rounds):
            for name, load in ways.items():
                drop(files)
                found.setdefault((name, "cold"), []).append(seconds_of(load, files))
                found.setdefault((name, "warm"), []).append(seconds_of(load, files))
            for readers in (1, 2, 4, 8):
                drop(files)
                began = clock()
                read_ahead(files, limit_bytes=1 << 40, readers=readers)
                found.setdefault((f"reading ahead alone, {readers}", "cold"), []).append(clock() - began)
            found.setdefault(("mapped, after reading ahead", "warm"), []).append(seconds_of(by_mapping, files))
    print(f"{gib:.2f} GiB in {SHARDS} files, median of {arguments.rounds}")
    for (name, state), seconds in found.items():
        print(f"{name:<30} {state:<5} {median(seconds):6.2f} s   {gib / median(seconds):6.2f} GiB/s")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="on the disk that is measured; default: the system's for temporary files"
    )
    sys.exit(main(parser.parse_args()))
