"""What `pinna doctor` makes of the device, link by link of the chain: the first broken one fails."""

from __future__ import annotations

import pytest
from tests.target.examine import Seen
from tests.target.proof import must

from pinna.doctor.causes import LINKS
from pinna.doctor.finding import Finding, Snapshot
from pinna.doctor.judge import judge
from pinna.doctor.looking import OPTIONAL

pytestmark = pytest.mark.live

NO_HUB = {"hub-name-unknown", "hub-not-running", "hub-unreachable"}
DEFAULT_HUB = "http://hub.local:8080"  # of role pinna


@pytest.fixture(scope="module")
def findings(seen: Seen) -> dict[str, Finding]:
    return {finding.link: finding for finding in judge(seen.snapshot)}


@pytest.mark.parametrize("link", LINKS)
def test_the_doctor_finds_nothing_broken(
    findings: dict[str, Finding], snapshot: Snapshot, link: str, pytestconfig: pytest.Config
) -> None:
    found, title = findings[link], LINKS[link].title
    if found.status in ("not applicable", "waits") or (found.status == "not seen" and link in OPTIONAL):
        pytest.skip(f"{title}: {found.title}")
    told = snapshot.text("settings", "hub")
    if found.cause in NO_HUB and told == DEFAULT_HUB and pytestconfig.option.hub_url is None:
        pytest.skip(f"{found.title}: nobody has set pinna_hub_url, nor given --hub-url")
    must(found.status != "not seen", f"{title}: not seen: {found.title}", "`sudo pinna doctor` there?")
    cure = f"{found.advice} As root: {' && '.join(found.commands)}" if found.commands else found.advice
    must(found.status == "ok", f"{title}: {found.title} ({'; '.join(found.evidence)})", cure)
