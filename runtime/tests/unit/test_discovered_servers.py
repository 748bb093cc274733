"""Servers that a cluster names are used with the credentials of those that were given, and each once."""

from urllib.parse import urlparse

from nats.aio.client import Srv

from dreamforge.runtime.log.fast_client import DecodedUrl, one_each


def server(url: str) -> Srv:
    return Srv(DecodedUrl(*urlparse(url)))


def test_a_server_that_was_not_given_takes_the_credentials_of_those_that_were() -> None:
    found = one_each([server("tls://admin:p%40ss@10.0.0.1:4222"), server("tls://10.0.0.2:4222")])
    assert [(each.uri.hostname, each.uri.username, each.uri.password) for each in found] == [
        ("10.0.0.1", "admin", "p@ss"),
        ("10.0.0.2", "admin", "p@ss"),
    ]


def test_a_server_that_is_known_is_not_added_again() -> None:
    given = server("nats://admin:word@10.0.0.1:4222")
    assert one_each([given, server("nats://10.0.0.1:4222"), server("nats://10.0.0.1:4222")]) == [given]


def test_without_credentials_nothing_is_added_to_a_url() -> None:
    assert [each.uri.netloc for each in one_each([server("nats://a:4222"), server("nats://b:4222")])] == [
        "a:4222",
        "b:4222",
    ]
