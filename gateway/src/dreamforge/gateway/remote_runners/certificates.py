"""The certificate of the listener, read again when it was renewed: a gateway runs for longer than one."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from dreamforge.runtime.remote.settings import RemoteSettings
from dreamforge.runtime.service.settings import InvalidSettings

#: It is renewed two months before it ends.
LOOK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ListenerCertificates:
    """The files in FORGE_REMOTE_CERTIFICATES_DIR."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What the listener speaks TLS with. Errors: InvalidSettings."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidSettings((f"FORGE_REMOTE_CERTIFICATES_DIR: {self.certificate}: {error}",)) from None
        return context

    async def keep_current(self, context: ssl.SSLContext) -> None:
        """Read them again whenever they were written anew, until cancelled; new connections then have the new one."""
        written = self._written_ns()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if (now := self._written_ns()) != written:
                try:
                    context.load_cert_chain(self.certificate, self.key)
                    written = now
                    logger.info("the certificate for runners of other machines was renewed")
                except (OSError, ssl.SSLError) as error:
                    logger.warning("the renewed certificate for runners cannot be read: {}", error)

    def _written_ns(self) -> int:
        try:
            return self.certificate.stat().st_mtime_ns
        except OSError:
            return 0


def certificates_of(remote: RemoteSettings) -> ListenerCertificates:
    """Those of the settings. Errors: InvalidSettings without a folder."""
    if (folder := remote.certificates_dir) is None:
        raise InvalidSettings(("FORGE_REMOTE_CERTIFICATES_DIR is not set: it holds authority.pem and server.pem",))
    return ListenerCertificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
