"""A bucket belongs to one log: it is marked once, and another installation's or application's is not used."""

import pytest

from dreamforge.contracts.errors import NotOurs, OtherLog
from dreamforge.runtime.storage.bucket_owner import claim, owner_of
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.testing.buckets import S3Settings


@pytest.fixture
def objects(s3_settings: S3Settings) -> ObjectStore:
    names = {name.removeprefix("FORGE_").lower(): value for name, value in s3_settings.settings_env().items()}
    return ObjectStore(ObjectStoreSettings(_env_file=None, **names))  # type: ignore[call-arg, arg-type]


async def test_the_first_log_takes_the_bucket_and_another_one_is_refused(objects: ObjectStore) -> None:
    await claim(objects, "log-a")
    await claim(objects, "log-a")
    with pytest.raises(OtherLog, match=r"names log log-a, and this is log log-b"):
        await claim(objects, "log-b")
    assert await owner_of(objects) == "log-a"


async def test_a_bucket_of_an_older_release_is_adopted(objects: ObjectStore) -> None:
    await objects.ensure_bucket()
    await objects.put("images/aa/a.png", b"x", "image/png")
    await objects.put("uploads/aa/a", b"x", "image/png")
    await objects.check()  # which writes, perhaps before the bucket is marked
    await claim(objects, "log-a")
    assert await owner_of(objects) == "log-a"


async def test_a_bucket_with_objects_of_something_else_is_refused_and_not_written_to(objects: ObjectStore) -> None:
    await objects.ensure_bucket()
    await objects.put("payroll/2026.csv", b"x", "text/csv")
    with pytest.raises(NotOurs, match="it holds payroll/"):
        await claim(objects, "log-a")
    assert await objects.top_names() == ["payroll/"]
