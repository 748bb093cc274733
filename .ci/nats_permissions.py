"""Write what each user of NATS may do, from the code: for nats-server, and as a table for people.

`python .ci/nats_permissions.py FOLDER` writes FOLDER/permissions.conf and FOLDER/bus-permissions.md.
"""

import re
import sys
from itertools import groupby
from pathlib import Path

from dreamforge.contracts.log.permissions import ADMIN, SERVICES, Grant, permissions_of, runner_user
from dreamforge.runtime.log.users_text import services_text

HEAD = """\
# What each user of NATS may do

Written from `contracts/log/permissions.py` by `task nats-permissions`; `task check` compares it. nats-server refuses
everything that is not here. `deploy/nats/permissions.conf` has the same as configuration, `dreamforge up` uses it too,
and `runtime/tests/integration/test_bus_permissions.py` tries what each user may not do. {1..16} stands for numbers.
What subjects cannot say is checked by every fold: see [security.md](security.md).
"""
NUMBERED = re.compile(r"-(\d+)$")


def table(user: str, title: str) -> str:
    """The grants of one user."""
    found = permissions_of(user)
    lines = [f"\n## {title}\n", "| may | for | subjects |", "|---|---|---|"]
    for verb, grants in (("publish", found.publish), ("subscribe", found.subscribe)):
        lines += [f"| {verb} | {grant.why} | {_subjects(grant)} |" for grant in grants]
    return "\n".join(lines) + "\n"


def _subjects(grant: Grant) -> str:
    """The subjects of a grant, those that differ in a number at their end as one."""
    shown = []
    for start, group in groupby(grant.subjects, lambda subject: NUMBERED.sub("", subject)):
        same = list(group)
        shown.append(f"{start}-{{1..{len(same)}}}" if len(same) > 1 else same[0])
    return "<br>".join(f"`{subject}`" for subject in shown)


def main(folder: Path) -> None:
    """Write both files."""
    (folder / "permissions.conf").write_text(services_text(), encoding="utf-8")
    runner = table(runner_user("ID"), "A runner, here with the id `ID`")
    tables = [table(user, f"The {user}") for user in SERVICES]
    text = HEAD + "".join([*tables, runner, table(ADMIN, "The administrator")])
    (folder / "bus-permissions.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
