"""What needs torch and is no part of a runner, in a process of its own: the module of this folder that is named first.

python -m dreamforge.gpu_runner.rendering tiny_model FOLDER
python -m dreamforge.gpu_runner.rendering weight_check FOLDER
"""

import sys
from importlib import import_module

from dreamforge.runtime.service.gc_tuning import leave_out_imports

COMMANDS = ("tiny_model", "weight_check")

if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
    sys.exit(f"python -m dreamforge.gpu_runner.rendering: the first argument is one of {', '.join(COMMANDS)}")
with leave_out_imports():
    command = import_module(f"dreamforge.gpu_runner.rendering.{sys.argv.pop(1)}")
sys.exit(command.main())
