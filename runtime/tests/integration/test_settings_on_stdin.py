"""A service that gets settings after its start: in its environment, over what is there, or it ends."""

import subprocess
import sys

from dreamforge.runtime.service.settings_on_stdin import SETTINGS_ON_STDIN, as_input

SERVICE = """
import os, sys
from dreamforge.runtime.service.settings_on_stdin import take_settings

take_settings()
print(os.environ.get("FORGE_NATS_URL"), os.environ["FORGE_HEALTH_PORT"], repr(sys.stdin.read()))
"""


def run(*arguments: str, stdin: bytes) -> tuple[int, str]:
    environment = {"FORGE_NATS_URL": "nats://old", "FORGE_HEALTH_PORT": "1"}
    command = [sys.executable, "-c", SERVICE, *arguments]
    ended = subprocess.run(command, env=environment, input=stdin, stdout=subprocess.PIPE, timeout=30, check=False)
    return ended.returncode, ended.stdout.decode().strip()


def test_what_is_given_wins_over_the_environment_and_nothing_is_left_to_read() -> None:
    assert run(SETTINGS_ON_STDIN, stdin=as_input({"FORGE_NATS_URL": "nats://nêw"})) == (0, "nats://nêw 1 ''")


def test_without_the_argument_standard_input_is_left_alone() -> None:
    assert run(stdin=b"mine") == (0, "nats://old 1 'mine'")


def test_a_service_ends_when_who_started_it_is_gone() -> None:
    assert run(SETTINGS_ON_STDIN, stdin=b"") == (0, "")
