"""`python -m dreamforge.gateway` serves; with the word `openapi` it prints or writes the OpenAPI document."""

import sys

from dreamforge.runtime.service.gc_tuning import leave_out_imports

if sys.argv[1:2] == ["openapi"]:
    from dreamforge.gateway.openapi_file import main as openapi

    sys.exit(openapi(sys.argv[2:]))
else:
    with leave_out_imports():
        from dreamforge.gateway.main import main

    main()
