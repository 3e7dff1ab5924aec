"""Docs that a command can check: links lead somewhere, names are true, tables are whole."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi import FastAPI
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from regather.processors.registry import all_kinds
from regather.service.metrics import METRICS
from regather.service.settings import ServiceSettings
from regather.service.topics_command import TopicsSettings
from regather.testing.inline_executor import InlineExecutor
from regather.topics.layout import Size, Topics, topic_specs
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.wire.events import _DECODERS
from regather_aggregator.settings import AggregatorSettings
from regather_cli.main import app as command_line
from regather_gateway.app import create_app
from regather_gateway.settings import GatewaySettings
from regather_worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "services/*/README.md", "examples/*/README.md", "benchmarks/README.md")
    for page in ROOT.glob(pattern)
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", text_of(page))
    local = [link for link in links if "://" not in link]
    broken = [link for link in local if not ((ROOT / page).parent / link).exists()]
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = {ROOT / "README.md"}
    while ahead:
        page = ahead.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^)#]+\.md)", page.read_text())
        ahead |= {(page.parent / link).resolve() for link in links if "://" not in link} - seen
    assert {page for page in PAGES if ROOT / page not in seen} == set()


def anchors_of(page: Path) -> set[str]:
    """Names that a link may have behind `#`: those of `<a id>`, and of headings as Git hosts make them."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', text))


@pytest.mark.parametrize("page", PAGES)
def test_anchors_of_links_exist(page: str) -> None:
    here = ROOT / page
    links = re.findall(r"\]\(([^)#]*)#([^)]+)\)", text_of(page))
    local = [(here.parent / path if path else here, name) for path, name in links if "://" not in path]
    assert [f"{path.name}#{name}" for path, name in local if name not in anchors_of(path)] == []


def test_pages_that_the_code_cites_exist_with_their_anchors() -> None:
    code = [path for folder in ("libs", "services", "cli", "tests") for path in (ROOT / folder).rglob("*.py")]
    cited = {found for path in code for found in re.findall(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", path.read_text())}
    wrong = [(page, name) for page, name in cited if not (ROOT / page).exists() and "*" not in page]
    wrong += [(page, name) for page, name in cited - set(wrong) if name and name not in anchors_of(ROOT / page)]
    assert ("docs/protocol.md", "identity") in cited
    assert wrong == []


def test_every_decision_stands_in_the_list() -> None:
    text = text_of("docs/decisions/README.md")
    adrs = sorted((ROOT / "docs/decisions").glob("0*.md"))
    titles = [(path.name, path.read_text().splitlines()[0].split(": ", 1)[1].rstrip(".")) for path in adrs]
    assert len(titles) > 20
    assert [name for name, title in titles if f"({name}) | {title[0].upper()}{title[1:]} |" not in text] == []


def test_every_dependency_stands_in_its_decision() -> None:
    paths = [ROOT / "pyproject.toml", ROOT / "cli/pyproject.toml", *ROOT.glob("[ls]*/*/pyproject.toml")]
    projects = [tomllib.loads(path.read_text()) for path in paths]
    tables = [project.get("project", {}) for project in projects]
    lists = [
        *(table.get("dependencies", []) for table in tables),
        *(extra for table in tables for extra in table.get("optional-dependencies", {}).values()),
        *(group for project in projects for group in project.get("dependency-groups", {}).values()),
    ]
    names = {re.split(r"[^\w-]", dependency)[0].lower() for found in lists for dependency in found}
    text = text_of("docs/decisions/0002-dependencies.md").lower()
    assert {"aiokafka", "duckdb", "pytest"} <= names
    assert {name for name in names if not name.startswith("regather") and name not in text} == set()


def test_every_event_stands_in_the_protocol() -> None:
    text = text_of("docs/protocol.md")
    names = [*_DECODERS, b"tick"]
    assert [name for name in names if f"| `{name.decode()}` |" not in text] == []


def test_every_topic_stands_in_the_protocol() -> None:
    text = text_of("docs/protocol.md")
    assert [spec.name for spec in topic_specs(Topics(), Size.COMPOSE) if f"`{spec.name}`" not in text] == []


def test_every_command_stands_in_a_page() -> None:
    text = "".join(map(text_of, PAGES))
    commands: Any = typer.main.get_command(command_line)
    assert len(commands.commands) > 5
    assert [name for name in commands.commands if f"regather {name}" not in text] == []


def test_every_make_target_stands_in_a_page_and_pages_name_no_other() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(map(text_of, PAGES))
    assert targets
    assert targets - set(re.findall(r"\bmake(?: -s)? ([a-z][a-z-]+)", text)) == set()
    assert set(re.findall(r"(?:^ {4,}|`)make(?: -s)? ([a-z][a-z-]+)", text, re.MULTILINE)) - targets == set()


def test_the_workflow_calls_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.findall(r"run: make ([a-z-]+)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert "test-all" in called
    assert set(called) - targets == set()


PAGES_THAT_NAME_FILES = [
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "docs/architecture.md",
    "docs/protocol.md",
    "docs/operations/accept-kinds.md",
    "docs/operations/simulation.md",
    "docs/reference/kinds/image.md",
    *(page for page in PAGES if page.startswith("services/")),
]


@pytest.mark.parametrize("page", PAGES_THAT_NAME_FILES)
def test_files_that_a_page_names_exist(page: str) -> None:
    named = set(re.findall(r"[\w/.-]*?([\w-]+\.py)\b", text_of(page)))
    folders = ("libs", "services", "cli", "tests", "benchmarks")
    there = {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert named
    assert named - there == set()


def test_paths_of_the_recipes_exist() -> None:
    """In the table of CONTRIBUTING.md; a path without a first folder is below the library's."""
    table = text_of("CONTRIBUTING.md").partition("## Which files a change touches")[2].partition("\n## ")[0]
    paths = re.findall(r"`([\w/.-]+/[\w.-]*)`", table)
    roots = [ROOT, ROOT / "libs/regather/src/regather", ROOT / "benchmarks/chaos", ROOT / "tests/accept_kinds"]
    assert len(paths) > 10
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


def test_every_route_stands_in_the_reference() -> None:
    app: FastAPI = create_app(GatewaySettings(), MemoryTransport(MemoryBroker()), all_kinds(), InlineExecutor({}))
    text = text_of("docs/reference/http.md")
    paths = [*app.openapi()["paths"], "/livez", "/readyz", "/metrics", "/version"]
    assert len(paths) > 8
    assert [path for path in paths if path not in text] == []


def test_every_code_stands_in_the_reference() -> None:
    text = text_of("docs/reference/http.md")
    sources = [*(ROOT / "services/gateway/src").rglob("*.py"), *(ROOT / "libs/regather/src").rglob("*.py")]
    found = {
        code
        for source in sources
        for code in re.findall(r"(?:code=|Problem\(\s*\d{3},\s*)\"([a-z][a-z-]+)\"", source.read_text())
    }
    assert {"not-ready", "busy", "bad-split"} <= found
    assert {code for code in found if f"`{code}`" not in text} == set()


def environment_name(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0] if isinstance(alias, AliasChoices) else alias or f"REGATHER_{name.upper()}")


@pytest.mark.parametrize(
    "settings", [ServiceSettings, GatewaySettings, WorkerSettings, AggregatorSettings, TopicsSettings]
)
def test_every_setting_stands_in_the_reference(settings: type[ServiceSettings]) -> None:
    text = text_of("docs/reference/settings.md")
    names = [environment_name(name, field) for name, field in settings.model_fields.items()]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_variable_that_the_code_reads_stands_in_the_reference() -> None:
    sources = [path for folder in ("libs", "services", "cli") for path in (ROOT / folder).glob("**/src/**/*.py")]
    read = {name for path in sources for name in re.findall(r"\"(REGATHER_[A-Z_]+)\"", path.read_text())}
    assert {"REGATHER_URL", "REGATHER_MODELS_DIR"} <= read
    assert {name for name in read if f"`{name}`" not in text_of("docs/reference/settings.md")} == set()


def test_every_kind_stands_in_the_list_and_every_page_of_a_kind_is_linked() -> None:
    text = text_of("docs/reference/kinds.md") + text_of("docs/reference/kinds/image.md")
    assert [kind for kind in all_kinds() if f"`{kind}`" not in text_of("docs/reference/kinds.md")] == []
    pages = [page.name for page in (ROOT / "docs/reference/kinds").glob("*.md")]
    assert [page for page in pages if f"{page})" not in text] == []


def test_every_metric_stands_in_the_reference() -> None:
    text = text_of("docs/reference/metrics.md")
    assert [name for name in METRICS if f"`{name}`" not in text] == []


def test_alerts_use_metrics_that_exist() -> None:
    used = set(re.findall(r"\bregather_\w+", text_of("deploy/prometheus/alerts.yml")))
    assert len(used) > 4
    assert used - set(METRICS) == set()


FOLDERS = {"T": "traps", "C": "contract", "I": "integration", "E": "e2e", "U": "unit"}


def trap_rows() -> dict[int, list[str]]:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text_of("docs/operations/client-traps.md"), re.MULTILINE)
    return {int(number): [cell.strip() for cell in cells.split(" | ")] for number, cells in rows}


def test_every_trap_of_the_client_is_tested_and_at_most_ten_are_reasoned() -> None:
    rows = trap_rows()
    assert sorted(rows) == list(range(1, 46))
    untested = [number for number, cells in rows.items() if len(cells) < 3 or "::test_" not in cells[2]]
    assert len(untested) <= 10
    assert [number for number in untested if "no test: " not in rows[number][1]] == []


def test_the_tests_of_the_traps_exist() -> None:
    named = {name for cells in trap_rows().values() for name in re.findall(r"`([\w/.]+::test_\w*)`", " ".join(cells))}
    assert len(named) > 50
    missing = []
    for name in named:
        path, _, begin = name.partition("::")
        folder, _, rest = path.partition("/")
        file = ROOT / "tests" / FOLDERS[folder] / rest if folder in FOLDERS else ROOT / path
        if not file.exists() or not re.search(rf"def {begin}", file.read_text()):
            missing.append(name)
    assert missing == []


def test_files_that_the_traps_name_exist() -> None:
    named = set(re.findall(r"`(?:[\w/]+/)?(\w+\.(?:py|json|lock))`", text_of("docs/operations/client-traps.md")))
    there = {path.name for pattern in ("libs/**/*", "services/**/*", "*.lock") for path in ROOT.glob(pattern)}
    assert len(named) > 15
    assert named - there == set()
