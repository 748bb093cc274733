"""Where an image is in the object store: its key follows from its content hash, and is never believed. Pure."""

IMAGES = "images/"


def object_key(sha256: str) -> str:
    """The key of a rendered image: in two levels of folders, because some stores list folders slowly.

    It ends as the first release named them, whatever the format: its content type says that.

    >>> object_key("ab" + "0" * 62)[:13]
    'images/ab/ab0'
    """
    return f"{IMAGES}{sha256[:2]}/{sha256}.png"
