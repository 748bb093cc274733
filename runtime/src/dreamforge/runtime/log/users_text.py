"""The users of NATS and their permissions as configuration of nats-server, for `dreamforge up` and for production."""

import json
from collections.abc import Iterable

from dreamforge.contracts.log.permissions import ADMIN, SERVICES, UserPermissions, permissions_of
from dreamforge.runtime.log.names import PLAIN_NAMES, Names

ACK = "$JS.ACK."


def user_block(user: str, public_key: str, names: Names = PLAIN_NAMES) -> str:
    """One user with its public nkey, as an entry of `users`."""
    permissions = permissions_text(permissions_of(user), names)
    return f"{{ nkey: {public_key}, permissions: {permissions} }}  # {user}\n"


def permissions_text(permissions: UserPermissions, names: Names = PLAIN_NAMES) -> str:
    """The permissions of one user; whatever they do not name is refused."""
    publish = _list(permissions.publish_subjects, names)
    subscribe = _list(permissions.subscribe_subjects, names)
    return f"{{\n  publish: {{ allow: {publish} }}\n  subscribe: {{ allow: {subscribe} }}\n}}"


def services_text(names: Names = PLAIN_NAMES) -> str:
    """The permissions of each service as variables of a configuration, by which a user of any kind can name them."""
    parts = (f"{user}_permissions: {permissions_text(permissions_of(user), names)}\n" for user in SERVICES)
    head = "# Written from contracts/log/permissions.py (`dreamforge streams permissions`); do not edit.\n\n"
    return head + "\n".join(parts)


def users_text(password: str, public_keys: Iterable[tuple[str, str]], names: Names = PLAIN_NAMES) -> str:
    """The users of an embedded server: the administrator with a password, the others by name with their nkeys."""
    admin = f"{{ user: {ADMIN}, password: {json.dumps(password)} }}\n"
    blocks = "".join(user_block(user, key, names) for user, key in public_keys)
    return f"users: [\n{admin}{blocks}]\n"


def _list(subjects: Iterable[str], names: Names) -> str:
    lines = "".join(f"    {json.dumps(_on_server(each, names))}\n" for each in subjects)
    return f"[\n{lines}  ]"


def _on_server(subject: str, names: Names) -> str:
    """A subject with the installation's prefix; acknowledgements begin with the name of their stream on the server."""
    if subject.startswith(ACK):
        stream, _, rest = subject.removeprefix(ACK).partition(".")
        return f"{ACK}{names.stream(stream)}.{rest}"
    return names.on_server(subject)
