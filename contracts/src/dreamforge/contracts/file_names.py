"""Names of image files for people, the same wherever an image is saved."""

import re

from dreamforge.contracts.pictures.formats import extension_of

SLUG_CHARS = 40


def image_file_name(prompt: str, job_id: str, index: int | str, content_type: str = "image/png") -> str:
    """The prompt, the end of the job's id, and the index of the image; ASCII letters, digits, dots and hyphens only.

    >>> image_file_name("A lighthouse, at dawn!", "01a20638-499f-7288-a6c2-5e668ec21e03", 0)
    'a-lighthouse-at-dawn-8ec21e03-0.png'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:SLUG_CHARS].strip("-")
    return f"{slug or 'picture'}-{job_id[-8:]}-{index}{extension_of(content_type)}"
