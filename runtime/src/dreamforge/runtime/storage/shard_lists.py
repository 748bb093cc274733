"""The lists of shards in a folder of weights: the files that loading opens because such a list names them."""

from pathlib import Path

from dreamforge.contracts.models.model_files import place_problem
from dreamforge.runtime.storage.model_facts import ModelUnusable, read_json

LIST_SUFFIX = ".index.json"
SAFETENSORS = ".safetensors"


def check_shard_lists(folder: Path, part: str) -> None:
    """Refuse a list that names a file outside of its folder, a hidden one, or one that is no safetensors file.

    Libraries join folder and name as they are. Whether the named shards are there is asked of the variant that is read.
    Errors: ModelUnusable, OSError.
    """
    for path in sorted(folder.glob(f"*{LIST_SUFFIX}")):
        if f"{SAFETENSORS}." not in path.name:
            continue  # of another format, which is not read
        shards = read_json(path, part).get("weight_map")
        for name in set(map(str, shards.values())) if isinstance(shards, dict) else ():
            if "/" in name or place_problem(name) or not name.endswith(SAFETENSORS):
                right = "take the model from where it was published"
                raise ModelUnusable(str(path), part, f"lists {name!r} as a shard", right)
