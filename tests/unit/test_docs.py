"""What people read is what the programs do: tables, commands, examples, dependencies."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from mdm_files.settings import FileCatalogueSettings
from mdm_keys.server import KeyServerSettings
from mdm_metadata.settings import MetadataSettings
from srm_dicom import config, tomlfile
from srm_dicom.cli import admin, keyserver, user
from srm_dicom.daemon.processes import ROLES
from srm_plugin_dicom.commands import group as dicom_group
from srm_plugin_dicom.settings import Settings as DicomSettings
from srm_plugin_disk.plugin import Settings as DiskSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


GENERATE = generator()
CONFIGURATION = sys.modules["configuration_keys"]


# --- tables --------------------------------------------------------------------------------------


def test_committed_pages_are_what_the_code_says() -> None:
    stale = [name_of(path) for path, text, wanted in GENERATE.pages() if text != wanted]
    assert not stale, "run make docs"


def test_every_table_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in GENERATE.TABLES if f"<!-- table: {name} -->" not in text] == []


@pytest.mark.parametrize("title", CONFIGURATION.FILES)
def test_every_key_is_explained(title: str) -> None:
    silent = [key.word for key in CONFIGURATION.keys_of(title) if not key.meaning]
    assert not silent, "say what it means in the struct's docstring or in docs/configuration_words.py"


def test_nothing_is_explained_that_is_no_key() -> None:
    known = {key.word for title in CONFIGURATION.FILES for key in CONFIGURATION.keys_of(title)}
    assert set(CONFIGURATION.WORDS) - known == set()


# --- commands ------------------------------------------------------------------------------------

STORY = "tests/interop/test_readme.py::test_the_readme_does_what_it_says"
USING = "tests/interop/test_readme.py::test_the_users_pages_do_what_they_say"
RUNNING = "tests/interop/test_readme.py::test_the_administrators_commands"
WORKSTATION = "tests/interop/test_images_of_workstations.py::test_the_page_does_what_it_says"
EDS = "tests/unit/keys/test_eds.py::test_the_page_does_what_it_says"
KEYS = "tests/unit/keys/test_key_commands.py::test_the_page_does_what_it_says"
DEIDENTIFYING = "tests/unit/deidentify/test_files.py::test_the_commands_of_the_page"
PROVEN = {
    ("README.md", "make demo KEEP=1 DIR=demo-site"): STORY,
    ("README.md", "make demo"): STORY,
    ("README.md", "*"): STORY,
    ("docs/user/first-copy.md", "*"): USING,
    ("docs/user/mdm.md", "*"): USING,
    ("docs/user/https.md", "*"): "tests/interop/https/test_users_page.py::test_the_page_does_what_it_says",
    ("docs/user/rights.md", "*"): USING,
    ("docs/user/workstation.md", "*"): WORKSTATION,
    ("docs/user/glite-eds.md", "*"): EDS,
    ("docs/admin/install.md", "/opt/srm-dicom/bin/srm-dicom init"): "tests/unit/cli/test_init.py::"
    "test_what_no_option_says_is_asked_for_and_asked_again_until_it_makes_sense",
    ("docs/admin/operate.md", "*"): RUNNING,
    ("docs/admin/keys.md", "*"): KEYS,
    ("docs/admin/pacs.md", "*"): RUNNING,
    ("docs/admin/deidentification.md", "*"): DEIDENTIFYING,
}
"""Which test runs the commands of a page; ``*`` stands for all that are not named."""

MACHINE = frozenset(
    {"apt-get", "python3", "runuser", "install", "systemctl", "systemd-sysusers", "systemd-tmpfiles", "make"}
)
"""Programs of the machine in commands of install.md, and make, which is what runs the tests."""

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[str]:
    for block in BLOCK.findall(page.read_text()):
        for line in block.splitlines():
            prompt, _, command = line.partition(" ")
            assert prompt in ("$", "#"), f"{line!r} in {name_of(page)}: console blocks have commands only"
            yield command


COMMANDS = [(name_of(page), command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_documented_command_is_run_by_a_test(page: str, command: str) -> None:
    test = PROVEN.get((page, command)) or PROVEN.get((page, "*"))
    if test is None:
        program = Path(shlex.split(command)[0]).name
        assert program in MACHINE or program == "pip", f"no test runs {command!r}"
        return
    path, _, function = test.partition("::")
    assert f"def {function}(" in (ROOT / path).read_text()


PROGRAMS: dict[str, click.Group] = {
    "mdm": user.main,
    "srm-dicom": admin.main,
    "mdm-keys": keyserver.main,
}


def programs(page_and_command: tuple[str, str]) -> Iterator[tuple[click.Group, list[str]]]:
    words = shlex.split(page_and_command[1])
    if "--" in words:
        words = words[words.index("--") + 1 :]
    name = Path(words[0]).name
    if name in PROGRAMS:
        yield PROGRAMS[name], words[1:]


OURS = [found for each in COMMANDS for found in programs(each)]


@pytest.mark.parametrize(("group", "words"), OURS, ids=[" ".join(words) for _, words in OURS])
def test_a_documented_command_exists_with_its_options(group: click.Group, words: list[str]) -> None:
    if words[0] == "dicom":
        group, words = dicom_group(), words[1:]
    command: click.Command = group
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if re.match(r"--?[a-z]", word) and word not in known] == []
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    silent = [
        (words, parameter.name)
        for words, command in GENERATE.walk(PROGRAMS[name])
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


@pytest.mark.parametrize("words", [" ".join(words) for words, _ in GENERATE.walk(admin.main)])
def test_the_pages_show_every_command_of_administrators(words: str) -> None:
    shown = "\n".join(command for _, command in COMMANDS)
    assert f"srm-dicom {words}" in shown or (words == "demo" and "make demo" in shown)


def test_the_pages_of_users_show_every_command_of_mdm() -> None:
    of_pages = (command.split() for page, command in COMMANDS if page.startswith("docs/user/"))
    shown = {words[1] for words in of_pages if words[0] == "mdm"}
    assert shown == set(user.main.commands)


def test_the_readme_denies_no_command_that_exists() -> None:
    denied = [line for line in (ROOT / "README.md").read_text().splitlines() if re.search(r"\| no\b", line)]
    named = re.findall(r"`(mdm|srm-dicom) ([a-z-]+)`", "".join(denied))
    assert named
    groups = {"mdm": user.main, "srm-dicom": admin.main}
    assert [
        f"{program} {name}" for program, name in named if name in groups[program].list_commands(None)
    ] == []


# --- examples ------------------------------------------------------------------------------------

EXAMPLES: list[tuple[str, type[Any], str, type[Any] | None]] = [
    ("srm-dicom.toml", config.Config, "", None),
    ("projects.d/heart.toml", config.ProjectFile, "", None),
    ("plugins.d/dicom.toml", config.PluginFile, "settings", DicomSettings),
    ("plugins.d/disk.toml", config.PluginFile, "settings", DiskSettings),
    ("catalog.d/keys.toml", config.CatalogueFile, "server", KeyServerSettings),
    ("catalog.d/files.toml", config.CatalogueFile, "server", FileCatalogueSettings),
    ("catalog.d/metadata.toml", config.CatalogueFile, "server", MetadataSettings),
]


def test_every_example_is_looked_at() -> None:
    there = {str(path.relative_to(ROOT / "etc")) for path in (ROOT / "etc").rglob("*.toml")}
    assert there == {name for name, *_ in EXAMPLES}


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", text)


@pytest.mark.parametrize(("name", "kind", "place", "settings"), EXAMPLES, ids=[name for name, *_ in EXAMPLES])
def test_an_example_is_accepted_and_shows_defaults(
    name: str, kind: type[Any], place: str, settings: type[Any] | None, tmp_path: Path
) -> None:
    text = (ROOT / "etc" / name).read_text()
    shown = read(text, kind, place, settings, tmp_path)
    whole = read(uncommented(text), kind, place, settings, tmp_path)
    said = {key for key, value in shown.items() if value not in NOTHING}
    assert {key for key in said if shown[key] != whole[key]} == set(), "a commented line is not the default"


NOTHING: tuple[Any, ...] = (None, "", (), [], {})
"""Values of keys that are not set; a commented line beside them is an example."""


def read(
    text: str, kind: type[Any], place: str, settings: type[Any] | None, tmp_path: Path
) -> dict[str, Any]:
    path = tmp_path / "example.toml"
    path.write_text(text)
    found = tomlfile.read(path, kind)
    values = dict(leaves(msgspec.to_builtins(found, builtin_types=(Path,), enc_hook=str)))
    if settings is not None:
        values |= leaves(msgspec.to_builtins(msgspec.convert(getattr(found, place), settings)), place)
    return values


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{name}[{number}]")
    else:
        yield name, value


@pytest.mark.parametrize(("name", "kind", "place", "settings"), EXAMPLES, ids=[name for name, *_ in EXAMPLES])
def test_an_example_shows_every_key(
    name: str, kind: type[Any], place: str, settings: type[Any] | None
) -> None:
    table = tomllib.loads(uncommented((ROOT / "etc" / name).read_text()))
    assert sorted(missing(kind, table)) == []
    if settings is not None:
        assert sorted(missing(settings, table[place])) == []


def missing(struct: type[Any], table: dict[str, Any]) -> Iterator[str]:
    """Yield the keys of a struct that a table lacks; of several tables each key must be in one."""
    for field in msgspec.structs.fields(struct):
        if field.name not in table:
            yield f"{struct.__name__}.{field.name}"
        else:
            value = table[field.name]
            for inner in CONFIGURATION.structs_in(field.type):
                merged = value if isinstance(value, dict) else {key: one[key] for one in value for key in one}
                yield from missing(inner, merged)


# --- the rest ------------------------------------------------------------------------------------


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    told = re.findall(r"(?m)^\| ([A-Za-z0-9-]+) \|", (ROOT / "docs" / "dependencies.md").read_text())
    assert {re.split(r"[^A-Za-z0-9-]", one)[0] for one in wanted} == set(told) - {"package"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:tests|srm_dicom)/[a-z0-9_/]+\.py)(?:::(\w+))?`", page.read_text())
    for path, function in named:
        assert f"def {function}" in (ROOT / path).read_text(), f"{path}::{function}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


TIMED = ROOT / "etc" / "systemd" / "srm-dicom-audit-head.service"
UNITS = sorted(set((ROOT / "etc" / "systemd").glob("*.service")) - {TIMED})


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_runs_a_role_as_the_user_of_its_zone(unit: Path) -> None:
    text = unit.read_text()
    role = re.search(r"serve --role (\w+) ", text)
    assert role is not None
    assert unit.stem == f"srm-dicom-{role[1]}"
    inner = role[1] in ("stager", "registrar")
    assert ("User=srm-dicom-inner\n" in text) is inner
    assert ("InaccessiblePaths=-/var/lib/srm-dicom/inner" in text) is not inner
    assert "LimitCORE=0\n" in text
    sees_images = inner or role[1] == "transfer"
    assert ("MemorySwapMax=0\n" in text) is sees_images, "no clear byte on a disk, in the swap neither"
    assert "ProtectSystem=strict\n" in text


def test_the_heads_of_the_audit_chains_are_sent_daily() -> None:
    (command,) = re.findall(r"ExecStart=\S+/srm-dicom (audit head .*) --config", TIMED.read_text())
    assert "--sign --to ${RECEIVER}" in command
    assert "OnCalendar=daily\n" in TIMED.with_suffix(".timer").read_text()


def test_every_role_has_a_unit() -> None:
    assert {path.stem for path in UNITS} == {f"srm-dicom-{role}" for role in ROLES}
