"""`python -m dreamforge.gpu_runner.worker`: see `process`."""

from dreamforge.runtime.service.gc_tuning import leave_out_imports

with leave_out_imports():
    from dreamforge.gpu_runner.worker.process import leave, main

leave(main())
