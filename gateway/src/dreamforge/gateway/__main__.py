"""`python -m dreamforge.gateway` serves; `python -m dreamforge.gateway openapi` prints the OpenAPI document."""

import sys

if sys.argv[1:2] == ["openapi"]:
    from dreamforge.gateway.documents.openapi import main as openapi

    sys.exit(openapi(sys.argv[2:]))
else:
    from dreamforge.gateway.main import main

    main()
