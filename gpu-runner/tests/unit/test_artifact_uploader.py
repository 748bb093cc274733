"""A picture is stored once as far as we remember, for as long as nobody can have collected it."""

from dataclasses import dataclass, field

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader


@dataclass
class Shelf:
    """Counts what is put on it; the first `broken` puts fail."""

    broken: int = 0
    puts: list[str] = field(default_factory=list)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        if self.broken:
            self.broken -= 1
            raise DependencyAway(dependency="s3", reason="away")
        self.puts.append(key)


async def test_a_known_picture_is_not_stored_again() -> None:
    shelf = Shelf()
    uploads = ArtifactUploader(shelf)
    for _ in range(2):
        await uploads.store("ab" * 32, b"x", "image/png")
    assert len(shelf.puts) == 1


async def test_what_may_have_been_collected_is_stored_again() -> None:
    shelf = Shelf()
    uploads = ArtifactUploader(shelf, remembered_seconds=0.0)
    for _ in range(2):
        await uploads.store("ab" * 32, b"x", "image/png")
    assert len(shelf.puts) == 2


async def test_only_so_many_are_remembered() -> None:
    shelf = Shelf()
    uploads = ArtifactUploader(shelf, remembered=1)
    for digest in ("aa" * 32, "bb" * 32, "bb" * 32, "aa" * 32):
        await uploads.store(digest, b"x", "image/png")
    assert len(shelf.puts) == 3


async def test_a_store_that_is_away_is_waited_for() -> None:
    shelf = Shelf(broken=2)
    await ArtifactUploader(shelf).store("ab" * 32, b"x", "image/png")
    assert len(shelf.puts) == 1
