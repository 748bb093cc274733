"""Repositories of a server with the interface of the Hugging Face Hub: revisions, files, URLs."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from dreamforge.cli.models.download import FileDownload
from dreamforge.cli.models.errors import DownloadFailed
from dreamforge.cli.models.partial_file import ExpectedFile

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

#: One document of a few hundred KiB.
ANSWER_SECONDS = 30.0
LICENCE_TAG = "license:"
TOKEN_HINT = "accept its licence there, and put a token into FORGE_HUB_TOKEN"


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at one commit, with the files that it lists; none if it was not asked."""

    name: str
    hub_url: str
    revision: str
    listed: tuple[ExpectedFile, ...] = ()
    #: As its page says; "" if it does not.
    licence: str = ""

    def url_of(self, path: str) -> str:
        """The URL of one of its files."""
        from huggingface_hub import hf_hub_url  # 0.9 s, for downloads only

        return hf_hub_url(self.name, path, revision=self.revision, endpoint=self.hub_url)

    def download(self, file: ExpectedFile) -> FileDownload:
        """The download of one of its files."""
        return FileDownload(file, self.url_of(file.path))


@dataclass(frozen=True, slots=True)
class ModelHub:
    """A server, and the token that it gets."""

    url: str
    token: str = ""

    async def repository(self, name: str, revision: str) -> HubRepository:
        """A branch, tag or commit ("": the main branch), resolved to its commit. Errors: DownloadFailed."""
        found = await asyncio.to_thread(self._info, name, revision or "main")
        files = (ExpectedFile(each.rfilename, each.size, _sha256(each.lfs)) for each in found.siblings or ())
        licences = (tag.removeprefix(LICENCE_TAG) for tag in found.tags or () if tag.startswith(LICENCE_TAG))
        return HubRepository(name, self.url, str(found.sha), tuple(files), next(licences, ""))

    def _info(self, name: str, revision: str) -> "ModelInfo":
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        api = HfApi(endpoint=self.url, token=self.token or False)
        try:
            return api.model_info(name, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
        except HfHubHTTPError as error:
            raise self._failed(name, refusal(error.response.status_code)) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._failed(name, str(error) or type(error).__name__) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(name, f"the answer does not describe a repository: {error}") from error

    def _failed(self, name: str, reason: str) -> DownloadFailed:
        return DownloadFailed(name, f"{self.url}/{name}", reason)


def refusal(status: int) -> str:
    """The reason in an error for a status that is not 200."""
    hint = f"; {TOKEN_HINT}" if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN) else ""
    return f"the server answered {status}{hint}"


def _sha256(large: object) -> str | None:
    """The hash of a large file; small ones have only a git object id, which is a SHA-1."""
    return getattr(large, "sha256", None)
