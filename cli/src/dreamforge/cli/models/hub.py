"""Repositories of a server with the interface of the Hugging Face Hub: revisions, files, URLs."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from dreamforge.cli.models.download import FileDownload
from dreamforge.cli.models.errors import DownloadFailed
from dreamforge.cli.models.model_card import OTHER_LICENCE
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.contracts.models.descriptor import Sha256
from dreamforge.contracts.models.descriptor_file import problems_of

#: One document of a few hundred KiB; of repositories with thousands of files, some megabytes.
ANSWER_SECONDS = 30.0
JSON_BYTES_MAX = 32 * 2**20
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
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
    """A server, and the client that asks it."""

    url: str
    client: httpx.AsyncClient

    async def repository(self, name: str, revision: str) -> HubRepository:
        """A branch, tag or commit ("": the main branch), resolved to its commit. Errors: DownloadFailed.

        Ours and not `HfApi.model_info`, whose client goes wherever a redirect leads.
        """
        shown = f"{self.url}/{name}"
        if REPOSITORY.fullmatch(name) is None or ".." in name:
            raise DownloadFailed(name, shown, "a repository is named as owner/name")
        url = f"{self.url}/api/models/{name}/revision/{quote(revision or 'main', safe='')}?blobs=true"
        answer = await fetch_json(self.client, url, name, shown)
        try:
            found = _Described.model_validate(answer)
        except ValidationError as error:
            problems = "; ".join(f"{where}: {what}" for where, what in problems_of(error))
            raise DownloadFailed(name, shown, f"the answer does not describe a repository: {problems}") from None
        files = (
            ExpectedFile(each.rfilename, each.size, each.lfs.sha256 if each.lfs else None) for each in found.siblings
        )
        licences = (tag.removeprefix(LICENCE_TAG) for tag in found.tags if tag.startswith(LICENCE_TAG))
        # One of its own has its name on the page, which comes with the files.
        licences = (licence for licence in licences if licence != OTHER_LICENCE)
        return HubRepository(name, self.url, found.sha, tuple(files), next(licences, ""))


class _Large(BaseModel):
    """A large file has a hash; a small one only a git object id, which is a SHA-1."""

    sha256: Sha256 | None = None


class _File(BaseModel):
    rfilename: str
    size: int | None = Field(default=None, ge=0)
    lfs: _Large | None = None


class _Described(BaseModel):
    """What is read of a hub's answer."""

    sha: str = Field(pattern="^[0-9A-Za-z]{1,64}$", description="a commit as the URLs of its files have it")
    siblings: tuple[_File, ...] = ()
    tags: tuple[str, ...] = ()


async def fetch_json(client: httpx.AsyncClient, url: str, what: str, shown: str) -> dict[str, Any]:
    """A JSON object of at most JSON_BYTES_MAX. `what` and `shown` name it in errors. Errors: DownloadFailed."""
    try:
        async with client.stream("GET", url, follow_redirects=True, timeout=ANSWER_SECONDS) as response:
            if response.status_code != httpx.codes.OK:
                raise DownloadFailed(what, shown, refusal(response.status_code))
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > JSON_BYTES_MAX:
                    raise DownloadFailed(what, shown, f"the answer has more than {JSON_BYTES_MAX} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadFailed(what, shown, str(error) or type(error).__name__) from error
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DownloadFailed(what, shown, f"the answer is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DownloadFailed(what, shown, "the answer is not a JSON object")
    return found


def refusal(status: int) -> str:
    """The reason in an error for a status that is not 200."""
    hint = f"; {TOKEN_HINT}" if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN) else ""
    return f"the server answered {status}{hint}"
