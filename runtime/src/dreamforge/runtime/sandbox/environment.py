"""The environment that a process of ours gives to another: what that one reads, and no secret of anybody else. Pure."""

import re
from collections.abc import Collection, Mapping

# Names, whole or in part, of what has or leads to a credential.
_SECRET = re.compile(
    r"TOKEN(?!IZERS)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|ACCESS_?KEY|API_?KEY|PRIVATE_?KEY|DATABASE_URL|_DSN$"
    r"|^SSH_AUTH_SOCK$|^GPG_AGENT_INFO$|^KUBECONFIG$|^NETRC$",
    re.IGNORECASE,
)
# What the system, Python, drivers of GPUs and the libraries of a renderer read.
_OF_A_RENDERER = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|XDG_CACHE_HOME|NO_COLOR|LD_.*|DYLD_.*|GLIBC_TUNABLES"
    r"|PYTHON.*|VIRTUAL_ENV|(CONDA|NIX|COVERAGE)_.*|(MI|JE|TC)?MALLOC_.*|CC|CXX|(LIBRARY_|C_INCLUDE_|CPLUS_INCLUDE_|C)PATH"
    r"|(CUDA|CUDNN|CUBLAS|NVIDIA|NV|NCCL|HIP|HSA|ROCR|ROCM|MIOPEN|AMD|ZE|SYCL|ONEAPI)_.*"
    r"|(OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|DNNL|ONEDNN)_.*"
    r"|(TORCH|TORCHINDUCTOR|TORCHDYNAMO|PYTORCH|TRITON|HF|TRANSFORMERS|DIFFUSERS|ACCELERATE|SAFETENSORS|TOKENIZERS)_.*"
    r"|TORCHDYNAMO.*|TQDM_.*"
)


def without_secrets(given: Mapping[str, str], own: Collection[str] = ()) -> dict[str, str]:
    """What is given, without credentials and, of our settings, with those in `own` only.

    `own` are names in capitals. libpq's own variables (PG...) are left to those who are given a database.

    >>> sorted(without_secrets({"PATH": "/bin", "HF_TOKEN": "s", "FORGE_A": "1", "FORGE_B": "2"}, {"FORGE_A"}))
    ['FORGE_A', 'PATH']
    """
    return {name: value for name, value in given.items() if _may_have(name.upper(), own)}


def _may_have(name: str, own: Collection[str]) -> bool:
    if name.startswith("FORGE_"):
        return name in own
    if name.startswith("PG"):
        return "FORGE_DATABASE_URL" in own
    return _SECRET.search(name) is None


def renderer_environment(given: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """What a process that loads models gets: variables that its libraries read, and those named in `more`.

    >>> sorted(renderer_environment({"HOME": "/h", "CUDA_VISIBLE_DEVICES": "1", "HF_TOKEN": "s", "STRIPE": "s"}))
    ['CUDA_VISIBLE_DEVICES', 'HOME']
    """
    return {
        name: value
        for name, value in given.items()
        if name in more or (_OF_A_RENDERER.fullmatch(name) is not None and _SECRET.search(name) is None)
    }
