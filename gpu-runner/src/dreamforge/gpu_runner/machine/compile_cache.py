"""The folder in which compilers of torch keep what they made, so that the next process need not make it again."""

import shutil
from pathlib import Path

from loguru import logger

from dreamforge.contracts.readable_sizes import readable_size

#: Of torch's compiler and of Triton's, each with a folder of its own.
FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
#: One piece at a time, in the thread that asks: processes of its own would each import torch, and take the processors
#: that renders need.
THREADS = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


def compile_cache(folder: Path, most_bytes: int) -> dict[str, str]:
    """The folder, made, as variables that torch reads when it is imported.

    One that has more than `most_bytes` is begun anew: what is in it cannot be told from what is still needed. To be
    called while no process uses it. Errors: OSError.
    """
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size_bytes > most_bytes:
        logger.info("{} has {}, and is begun anew", folder, readable_size(size_bytes))
        shutil.rmtree(folder)
    for name in FOLDERS.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {variable: str(folder / name) for variable, name in FOLDERS.items()} | THREADS
