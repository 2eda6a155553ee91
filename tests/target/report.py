"""The HTML report: one page, host by host, with what each test proves, and why one failed or was skipped."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

import pytest
from testinfra.host import Host
from tests.target.contact import Unreachable, name
from tests.target.examine import EXAMINATION, FOUND

from pinna.doctor.finding import Snapshot

HEADER = {"result": "Result", "host": "Host", "test": "What it proves"}
STYLE = """<style>
.hosts { border-collapse: collapse; } .hosts th, .hosts td { border: 1px solid #e6e6e6; padding: 5px; }
.results-table-row .collapsible td { padding: 3px 5px; } #results-table { color: #333; }
</style>"""
UNREACHABLE = "unreachable"


def host(item: pytest.Item) -> Host | None:
    """The host that a test is about; None where there is none to test."""
    return _parameters(item).get("_testinfra_host")


def host_of(item: pytest.Item) -> str:
    """Its name."""
    found = host(item)
    return name(found) if found is not None else ""


def stage_of(item: pytest.Item) -> str:
    """The stage at which this test judges the host."""
    marker = item.get_closest_marker("stage")
    return str(marker.args[0] if marker else _parameters(item).get("stage", FOUND))


def properties(item: pytest.Item) -> list[tuple[str, object]]:
    """What a report is to know of a test besides its name."""
    case = [str(value) for key, value in _parameters(item).items() if key not in ("_testinfra_host", "stage")]
    found = [("host", host_of(item)), ("stage", stage_of(item)), ("case", ", ".join(case))]
    return [(key, value) for key, value in found if value]


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}


class Page:
    """A pytest plugin that shapes pytest-html's page."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes: dict[str, Counter[str]] = {}

    def pytest_html_report_title(self, report: Any) -> None:
        report.title = "Pinna: what these devices prove"
        report.set_data("initialSort", "original")
        report.set_data("renderCollapsed", ["passed", "skipped", "failed", "error"])
        report.set_data(
            "environment", {"Run": f"pytest {' '.join(map(str, self._config.invocation_params.args))}"}
        )

    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        cells[:] = [
            f'<th class="sortable" data-column-type="{column}">{title}</th>'
            for column, title in HEADER.items()
        ]

    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        if report.skipped and _reason(report) == UNREACHABLE:
            del cells[:]  # its host has said so already
            return
        about = dict(report.user_properties)
        where, stage, case = (str(about.pop(key, "")) for key in ("host", "stage", "case"))
        after = f" ({stage})" if stage != FOUND else ""
        notes = [case, *(f"{value} {key.replace('_', ' ')}" for key, value in about.items())]
        noted = " – ".join([_title(report.nodeid), *(escape(note) for note in notes if note)])
        why = f"<br><small>{escape(_reason(report))}</small>" if not report.passed else ""
        cells[1:] = [
            f'<td class="col-host">{escape(where + after)}</td>',
            f'<td class="col-test">{noted}{why}</td>',
        ]

    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        rows = "".join(
            f"<tr><td>{escape(host)}</td>{self._verdict(host)}<td>{escape(self._described(host))}</td></tr>"
            for host in self._outcomes
        )
        head = "<tr><th>Host</th><th>Proven</th><th>Failed</th><th>Skipped</th><th>System</th></tr>"
        prefix.append(f'{STYLE}<table class="hosts">{head}{rows}</table>')

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            about = dict(report.user_properties)
            self._outcomes.setdefault(str(about.get("host", "")), Counter())[report.outcome] += 1

    def _verdict(self, host: str) -> str:
        counts = self._outcomes[host]
        return "".join(
            f'<td class="{outcome}">{counts[outcome]}</td>' for outcome in ("passed", "failed", "skipped")
        )

    def _described(self, host: str) -> str:
        """A device in a line: its system, kernel and microphone."""
        try:
            seen = self._config.stash[EXAMINATION].seen(host, FOUND)
        except Unreachable as error:
            return str(error)
        snapshot = Snapshot(seen.snapshot)
        port = snapshot.microphone_card.get("usb")
        microphone = next((each["product"] for each in snapshot.audio_devices if each["port"] == port), "")
        system = seen.facts["system"].get("PRETTY_NAME", "")
        parts = (system, f"Linux {seen.facts['kernel']}", seen.facts["machine"], microphone)
        return ", ".join(part for part in parts if part)


def _title(nodeid: str) -> str:
    """What a test proves, in words: its name."""
    function = nodeid.rsplit("::", 1)[-1].split("[", 1)[0]
    words = function.removeprefix("test_").replace("_", " ")
    return words[:1].upper() + words[1:]


def _reason(report: pytest.TestReport) -> str:
    why = report.longrepr
    lines = (str(why[2]) if isinstance(why, tuple) else report.longreprtext).strip().splitlines()
    return lines[-1].removeprefix("Skipped: ") if lines else ""
