"""A worker imports what its first image needs: what only some families or requests use is imported for them."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(120)]
# compel, and what it imports for families whose prompts are not weighted here.
LEFT_OUT = (
    *("compel", "ftfy", "pyparsing"),
    *("diffusers.pipelines.pixart_alpha", "diffusers.pipelines.sana", "diffusers.pipelines.stable_diffusion_xl"),
    *("transformers.models.gemma2", "transformers.models.t5"),
)
FOUND = f"""
import json, sys
from dreamforge.runtime.service.gc_tuning import leave_out_imports
with leave_out_imports():
    import dreamforge.gpu_runner.worker.process, dreamforge.gpu_runner.rendering.renderer_by_model
    import dreamforge.gpu_runner.rendering.feature_list
print(json.dumps([each for each in {LEFT_OUT!r} if each in sys.modules]))
"""


def test_a_worker_starts_without_what_few_requests_use(torch_installed: None) -> None:
    done = subprocess.run([sys.executable, "-c", FOUND], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
