"""The models of this machine, for runners of others: each file in ranges, so that a download can be resumed."""

from pathlib import Path

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gateway.http.errors import PageNotFound
from dreamforge.gateway.remote_runners.authentication import authenticated_runner
from dreamforge.runtime.remote.replies import RemoteFile, RemoteModel, RemoteModels
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, files_of

router = APIRouter(prefix="/v1/models", dependencies=[Depends(authenticated_runner)])


def remote_models(models_dir: Path | None) -> dict[str, tuple[Path, RemoteModel]]:
    """The models in a folder, by id, each with where it is; a folder without a readable descriptor is none."""
    found: dict[str, tuple[Path, RemoteModel]] = {}
    for path in sorted(models_dir.glob(f"*/{DESCRIPTOR_NAME}")) if models_dir else ():
        try:
            descriptor = ModelDescriptor.model_validate_json(path.read_bytes())
            found.setdefault(descriptor.model_id, (path.parent, _described(descriptor, path.parent)))
        except (OSError, ValidationError):
            continue
    return found


def _described(descriptor: ModelDescriptor, folder: Path) -> RemoteModel:
    """With the hash of each file that the descriptor pins. Errors: OSError."""
    pinned = {file.path: file.sha256 for file in descriptor.source.files} if descriptor.source else {}
    names = ((path, path.relative_to(folder).as_posix()) for path in files_of(folder))
    files = (RemoteFile(path=name, size_bytes=at.stat().st_size, sha256=pinned.get(name)) for at, name in names)
    return RemoteModel(descriptor=descriptor, files=tuple(files))


@router.get("")
def list_remote_models(request: Request) -> RemoteModels:
    """Which there are, and their files."""
    found = remote_models(request.app.state.models_dir)
    return RemoteModels(models=tuple(model for _, model in found.values()))


@router.get("/{model_id}/{path:path}")
def read_model_file(request: Request, model_id: str, path: str) -> FileResponse:
    """One file, or a range of it."""
    folder, model = remote_models(request.app.state.models_dir).get(model_id, (None, None))
    if folder is None or model is None or path not in {file.path for file in model.files}:
        raise PageNotFound(hint=f"there is no file {path[:200]} of a model {model_id[:80]} here")
    return FileResponse(folder / path, media_type="application/octet-stream")
