"""Which addresses a webhook may have. Pure; what a name resolves to is checked when it is connected to."""

from ipaddress import ip_address

from dreamforge.contracts.hosts import bare, is_loopback
from dreamforge.gateway.http.errors import InvalidRequest, Violation
from dreamforge.runtime.http.outgoing_rule import OutgoingRule


def checked_url(text: str, rule: OutgoingRule, *, allow_http: bool) -> str:
    """The URL, if events may be sent there. Errors: InvalidRequest."""
    import httpx  # 95 ms of a start, for what few gateways are asked

    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused(f"is not a URL: {error}") from error
    if url.scheme not in (("https", "http") if allow_http else ("https",)) or not url.host:
        raise _refused("must be https://host/path" + ("" if allow_http else " (http:// is not allowed here)"))
    if url.userinfo or url.fragment:
        raise _refused("must have neither a user name nor a fragment: receivers check the signature")
    port = url.port or (443 if url.scheme == "https" else 80)
    address = "127.0.0.1" if is_loopback(url.host) and not _is_address(url.host) else bare(url.host)
    if _is_address(address) and (refusal := rule.refusal(url.host, port, address)):
        raise _refused(f"is not allowed: {refusal} unless FORGE_GATEWAY_WEBHOOK_NETWORKS has it")
    return str(url)


def _is_address(host: str) -> bool:
    try:
        ip_address(bare(host))
    except ValueError:
        return False
    return True


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(violations=(Violation(why, "/url"),))
