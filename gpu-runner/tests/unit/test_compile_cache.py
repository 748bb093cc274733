"""What was compiled stays for the next process, until it is more than is allowed."""

from pathlib import Path

from dreamforge.gpu_runner.machine.compile_cache import compile_cache


def test_a_cache_is_kept_while_it_is_within_its_bound_and_else_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "compiled" / "runner"
    variables = compile_cache(folder, 10)
    kept = Path(variables["TORCHINDUCTOR_CACHE_DIR"]) / "kernel.so"
    kept.write_bytes(bytes(10))
    assert compile_cache(folder, 10) == variables
    assert kept.exists()
    assert compile_cache(folder, 9) == variables
    assert not kept.exists()
    assert Path(variables["TRITON_CACHE_DIR"]).is_dir()
