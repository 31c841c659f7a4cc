"""What a person does on the first page, in a real browser, against the running demo."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.servers import RealServer, binary, wait_until
from tests.servers import demo as run_demo

pytestmark = pytest.mark.browser

expect.set_options(timeout=30_000)  # a busy machine is no failure

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Watched:
    """A page, and everything that went wrong on it."""

    page: Page
    troubles: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run `aggregator demo` until every cluster has data, and on."""
    with run_demo(tmp_path_factory.mktemp("demo")) as running:
        wait_until(lambda: clusters_with_cpu(running) == 4, 30, "four clusters have data")
        yield running


def clusters_with_cpu(demo: RealServer) -> int:
    """Return how many clusters have the first fleet metric."""
    query = {"query": "count(count by (cluster) (fleet:cluster_cpu_utilisation_ratio))"}
    body = requests.get(f"{demo.url}/prometheus/api/v1/query", params=query, timeout=10).json()
    result = body["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        program = binary("chromium")
        started = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def watched(browser: Browser, demo: RealServer) -> Iterator[Watched]:
    """Open the first page; whatever the browser complains about fails the test."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    result = Watched(page)
    page.on(
        "console",
        lambda line: (
            result.troubles.append(line.text) if line.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: result.troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(demo.url) else result.troubles.append(request.url)
        ),
    )
    page.goto(demo.url)
    yield result
    page.close()
    assert result.troubles == []


def test_the_page_says_where_trouble_is(watched: Watched) -> None:
    """One sentence names the region, and the tiles of its clusters carry state and age."""
    page = watched.page
    expect(page.locator("#verdict")).to_contain_text("Europe")
    expect(page.locator(".region")).to_have_count(3)
    expect(page.locator("[data-region=europe] .tile")).to_have_count(2)
    tile = page.locator("[data-cluster=us-east-1-prod]")
    expect(tile.locator("[data-part=word]")).to_have_text("ok")
    expect(tile.locator("[data-part=age]")).to_contain_text(" s")


def test_charts_show_two_hours_of_every_region(watched: Watched) -> None:
    """Every region has four charts with a summary in words."""
    page = watched.page
    expect(page.locator(".chart canvas")).to_have_count(12)
    summaries = page.locator("[data-region=europe] [data-part=summary]")
    for index in range(4):
        expect(summaries.nth(index)).to_contain_text("eu-west-1-prod: min")


def test_a_cluster_is_found_by_keyboard(watched: Watched) -> None:
    """`/` opens a field that fades every cluster that does not match, also when data comes."""
    page = watched.page
    page.keyboard.press("/")
    page.keyboard.type("us-east")
    for _ in range(2):  # what the first answer brought is shown when the second one is there
        with page.expect_response("**/api/v1/regions"):
            pass
    expect(page.locator("[data-cluster=ap-south-1-prod]")).to_have_class("tile level-ok faded")
    expect(page.locator("[data-cluster=us-east-1-prod]")).not_to_have_class("tile level-ok faded")
    page.keyboard.press("Escape")
    expect(page.locator(".faded")).to_have_count(0)


def test_help_and_theme_are_a_key_and_a_button_away(watched: Watched) -> None:
    """`?` shows the keys; the button switches to the dark theme and the page remembers it."""
    page = watched.page
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_documentation_page_is_our_own(watched: Watched, demo: RealServer) -> None:
    """`/docs` shows the paths and asks nobody else for anything."""
    watched.page.goto(f"{demo.url}/docs")
    expect(watched.page.locator("body")).to_contain_text("/prometheus/api/v1/query_range")


def test_a_lost_connection_is_said(watched: Watched) -> None:
    """When the server does not answer, the page says so, with the age of what it shows."""
    page = watched.page
    expect(page.locator(".chart canvas")).to_have_count(12)
    page.route("**/api/**", lambda route: route.abort())
    expect(page.locator("#connection")).to_contain_text("Connection lost")
    page.unroute("**/api/**")
    expect(page.locator("#connection")).to_be_hidden()
    watched.troubles.clear()  # the aborted requests are what this test is about


def test_pages_forbid_what_they_do_not_need(demo: RealServer) -> None:
    """The content security policy allows nothing inline and nothing from elsewhere."""
    policy = requests.get(demo.url, timeout=10).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
