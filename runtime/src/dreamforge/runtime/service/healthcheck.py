"""The health check of a container: whether one of these addresses answers 200. Standard library only: it runs often.

python -m dreamforge.runtime.service.healthcheck http://127.0.0.1:8081/healthz
"""

import sys
import urllib.request
from collections.abc import Sequence

ANSWER_SECONDS = 4.0
# The gateway's own port, and the health port of the other services.
DEFAULT = ("http://127.0.0.1:8081/healthz", "http://127.0.0.1:8080/healthz")


def answers(url: str) -> bool:
    """Whether it answers 200; no proxy is asked."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def main(urls: Sequence[str]) -> int:
    """The exit status: 0 when one answers."""
    return 0 if any(answers(url) for url in urls or DEFAULT) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
