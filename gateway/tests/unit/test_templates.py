"""Prompt templates: what they stand for, that a seed repeats it, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.request.errors import BatchTooLarge, TemplateRefused
from dreamforge.gateway.batches.template_process import Task, TemplateProcesses
from dreamforge.gateway.batches.templates import expand_templates
from dreamforge.gateway.batches.wildcards import read_wildcards

WILDCARDS = {"animal": ("cat", "{red|blue} dog"), "places/city": ("Rome",), "loop": ("a __loop__",)}
ARGUMENTS: dict[str, Any] = {"samples": None, "seed": 7, "maximum": 20, "chars": 100}


def expanded(template: str, **changes: Any) -> list[str]:
    return [each["prompt"] for each in expand_templates({"prompt": template}, WILDCARDS, **ARGUMENTS | changes)]


@pytest.mark.parametrize(
    ("template", "prompts"),
    [
        ("a {red|blue} fox", ["a red fox", "a blue fox"]),
        ("{2$$ and $$a|b|c}", ["a and b", "a and c", "b and a", "b and c", "c and a", "c and b"]),
        ("a __animal__ in __places/city__", ["a cat in Rome", "a red dog in Rome", "a blue dog in Rome"]),
        ("__city__ {a|a}", ["Rome a"]),
        ("(plain:1.2) <lora:x:0.5> [text]", ["(plain:1.2) <lora:x:0.5> [text]"]),
    ],
)
def test_every_combination_is_there_once(template: str, prompts: list[str]) -> None:
    assert expanded(template) == prompts


def test_the_same_seed_draws_the_same_prompts_and_all_are_ones_of_the_template() -> None:
    drawn = [expanded("{a|b|c} __animal__", samples=12, seed=seed) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 12
    assert set(drawn[0]) <= set(expanded("{a|b|c} __animal__"))


def test_two_templates_are_combined_and_samples_are_pairs() -> None:
    both = {"prompt": "{a|b}", "negative_prompt": "{x|y}"}
    assert len(expand_templates(both, {}, **ARGUMENTS)) == 4
    assert len(expand_templates(both, {}, **ARGUMENTS | {"samples": 3})) == 3


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("a {red|blue", "character 3"),
        ("costs $5", "have a meaning"),
        ("__aminal__", "animal"),
        ("__../../etc/passwd__", "there is no wildcard"),
        ("__loop__", "contains itself"),
        ("${x}", "cannot be expanded"),
        ("{a|" * 100 + "b" + "}" * 100, "nested"),
        ("x" * 101, "100 characters"),
        ("{3$$a|a}", "no prompt fits"),
    ],
)
def test_a_wrong_template_is_told_what_is_wrong(template: str, says: str) -> None:
    with pytest.raises(TemplateRefused, match=says):
        expanded(template)


def test_too_many_combinations_are_refused_before_all_are_made() -> None:
    with pytest.raises(BatchTooLarge, match="20"):
        expanded("{a|b|c|d|e|f|g|h}" * 12)


async def test_a_template_that_takes_for_ever_ends_and_the_next_one_is_expanded() -> None:
    processes = TemplateProcesses(cpu_seconds=1)
    doubling = "".join(f"${{v{n}=${{v{n - 1}}}${{v{n - 1}}}}}" for n in range(1, 60))
    task = Task({"prompt": f"${{v0={{a|b}}}}{doubling}${{v59}}"}, {}, None, 1, 100, 2000)
    with pytest.raises(TemplateRefused, match=r"to expand|too much memory|nested"):
        await processes.expand(task)
    good = Task({"prompt": "{a|b}"}, {}, None, 1, 100, 2000)
    assert await processes.expand(good) == [{"prompt": "a"}, {"prompt": "b"}]


def test_only_text_files_of_the_folder_are_wildcards(tmp_path: Path) -> None:
    folder = tmp_path / "wildcards"
    (folder / "places").mkdir(parents=True)
    (folder / "animal.txt").write_text("# animals\ncat\n\n dog \ncat\n")
    (folder / "places" / "city.txt").write_text("Rome\n")
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe")
    (folder / "a__b.txt").write_text("x\n")
    (folder / "notes.md").write_text("x\n")
    (folder / "zoo.txt").write_text("z" * 200)
    (tmp_path / "secret.txt").write_text("secret\n")
    (folder / "outside.txt").symlink_to(tmp_path / "secret.txt")
    found = read_wildcards(folder, 100)
    assert found.values == {"animal": ("cat", "dog"), "places/city": ("Rome",)}
    assert set(found.refused) == {"empty", "bytes", "a__b", "zoo", "outside"}
    assert read_wildcards(None, 100).values == read_wildcards(tmp_path / "none", 100).values == {}
