"""The live page in a real browser: pictures per second, states, hostile names, whether it fits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import msgspec
import pytest

from agent_live import Feeder, build_status, replace_camera, stage_rows
from edgekit.agent.live import Live
from edgekit.agent.web import connection
from edgekit.agent.web.config import WebConfig
from edgekit.agent.web.server import WebServer
from edgekit.core.device_status import DeviceStatus, MqttStatus, ThrottleStatus
from web_client import Client, Serve, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]
LAPTOP, PHONE = 1280, 390
PATIENCE_MS = 120_000
"""Machines are shared: a browser that is slow to answer is no failure."""

TOKEN = "correct-horse-battery"


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """`open_page(client)`; nothing may be asked from elsewhere, and no script may fail."""
    troubles: list[str] = []
    contexts = []

    def open_client(
        client: Client, path: str = "/", width: int = LAPTOP, scheme: Literal["dark", "light"] = "light"
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda ask: None if ask.url.startswith(client.address) else troubles.append(ask.url))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda told: None if "ERR_CONNECTION" in told.text else troubles.append(told.text))
        page.goto(client.address + path)
        return page

    yield open_client
    for context in contexts:
        context.close()
    assert troubles == []


def wait_until_true(page: Page, script: str, arg: object = None) -> None:
    """As `Page.wait_for_function`, which the page's content security policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script, arg):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(50)


def wait_for(page: Page, name: str, value: str) -> None:
    wait_until_true(page, "([name, value]) => document.documentElement?.dataset[name] === value", [name, value])


def wait_for_rate(page: Page, fps: float, name: str = "fps") -> None:
    wait_until_true(page, "([name, fps]) => Number(document.documentElement?.dataset[name]) >= fps", [name, fps])


def notices(page: Page) -> str:
    return page.locator("#notices").inner_text()


def wait_for_notice(page: Page, text: str) -> None:
    page.locator("#notices li", has_text=text).wait_for()


@pytest.mark.parametrize("is_jpeg", [True, False], ids=["camera_jpeg", "raw"])
def test_page_shows_at_least_10_pictures_per_second(live: Live, serve: Serve, open_page: Open, is_jpeg: bool) -> None:
    with Feeder(live, is_jpeg=is_jpeg):
        page = open_page(serve())
        wait_for(page, "connection", "open")

        wait_for_rate(page, 10)
        wait_for_rate(page, 10, "answersFps")
        assert page.evaluate("document.getElementById('picture').naturalWidth") == 640


def test_page_tells_answer_latency_and_size(live: Live, serve: Serve, open_page: Open) -> None:
    with Feeder(live):
        page = open_page(serve())
        wait_for(page, "state", "serving")
        page.locator("#label", has_text="T-shirt/top").wait_for()

        assert page.locator("h1").inner_text() == "kitchen"
        assert page.locator("#bars li").count() == 3
        assert page.locator("#spoken").inner_text() == "T-shirt/top"
        total = page.locator("#total tbody tr", has_text="inference").locator("td").all_inner_texts()
        assert total == ["49.9", "21.7", "28.2", "41.2", "1,397,111"]
        recent = page.locator("#recent tbody tr", has_text="inference").locator("td").all_inner_texts()
        assert recent[1:] == ["21.7", "28.2", "-", "500"]
        model = page.locator("#model").inner_text()
        for text in ("661 KB", "732 KB", "6.4 MiB", "48.2 ms", "61.9 ms", "mobilenet_v2_w0.5", "static_wi8_ai8"):
            assert text in model
        assert notices(page) == ""


def troubled() -> DeviceStatus:
    status = replace_camera(build_status(recent=None), state="degraded", fps_in=6.1)
    assert status.drift is not None
    return msgspec.structs.replace(
        status,
        system=msgspec.structs.replace(
            status.system, throttle=ThrottleStatus(under_voltage=True, has_occurred=("under_voltage",))
        ),
        drift=msgspec.structs.replace(status.drift, flags=("classes", "blur"), psi=None),
        mqtt=MqttStatus(state="offline", detail="connection refused", num_pending=1234),
    )


def test_page_shows_every_trouble_and_takes_it_back(live: Live, serve: Serve, open_page: Open) -> None:
    with Feeder(live) as feeder:
        page = open_page(serve())
        wait_for(page, "state", "serving")

        feeder.status = troubled()
        for text in (
            "Camera slow. 6.1 of 30 frames per second.",
            "Board slowed down. Under-voltage.",
            "Drift. Not as in training: classes, blur.",
            "MQTT offline. Connection refused. 1,234 records wait.",
        ):
            wait_for_notice(page, text)
        assert page.locator("#alerts").inner_text() == "Camera slow. Board slowed down. Drift. MQTT offline."

        feeder.is_paused = True
        lost = replace_camera(build_status(state="waiting"), state="lost", detail="no frame for 2 s", retry_in_s=3.25)
        feeder.status = lost
        wait_for_notice(page, "Camera lost. No frame for 2 s. Trying again in 3.3 s.")
        wait_for(page, "camera", "lost")
        assert page.locator("#veil").inner_text() == "Camera lost"
        assert page.locator("#answer.stale").count() == 1

        feeder.is_paused = False
        feeder.status = build_status()
        page.locator("#notices:empty").wait_for(state="attached")
        page.locator("#answer:not(.stale)").wait_for()
        assert page.locator("#veil").is_hidden()


@pytest.mark.parametrize(
    ("status", "notice", "veil"),
    [
        (replace_camera(build_status(), state="frozen"), "Picture frozen.", "Picture frozen"),
        (replace_camera(build_status(state="waiting"), state="ended"), "Recording over.", "Recording over"),
        (build_status(state="wedged", detail="inference does not move"), "Wedged. Inference does", "Wedged"),
        (
            replace_camera(
                build_status(state="starting", model=None, answer=None, recent=None, total=stage_rows(0), drift=None),
                state="opening", width=0, height=0, declared_fps=None,
            ),
            "Starting. The model is being loaded and checked.",
            "Camera opening",
        ),
    ],
    ids=["frozen", "ended", "wedged", "starting"],
)  # fmt: skip
def test_page_says_why_there_is_nothing_new(
    live: Live, serve: Serve, open_page: Open, status: DeviceStatus, notice: str, veil: str
) -> None:
    feeder = Feeder(live)
    feeder.status = status
    feeder.is_paused = True
    with feeder:
        page = open_page(serve(), width=PHONE)
        wait_for_notice(page, notice)
        page.locator("#veil", has_text=veil).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE


@pytest.mark.slow
def test_page_says_when_figures_are_old(live: Live, serve: Serve, open_page: Open) -> None:
    with Feeder(live) as feeder:
        page = open_page(serve())
        wait_for(page, "state", "serving")
        feeder.is_mute = True

        wait_for_notice(page, "Figures are old.")


@pytest.mark.slow
def test_page_says_when_the_connection_is_lost_and_comes_back(live: Live, open_page: Open) -> None:
    server = WebServer(WebConfig(port=0), live)
    server.start()
    client = Client(server)
    with Feeder(live):
        page = open_page(client)
        wait_for_rate(page, 0.1)
        server.stop()
        wait_for(page, "connection", "lost")
        wait_for_notice(page, "Connection lost. Trying again.")
        assert page.locator("#state").inner_text() == "connection lost"
        assert page.locator("#veil").is_visible()

        again = WebServer(WebConfig(port=client.port), live)
        again.start()
        wait_for(page, "connection", "open")
        page.locator("#notices:empty").wait_for(state="attached")
        wait_for_rate(page, 10)
        again.stop()


@pytest.mark.slow
def test_page_notices_a_server_that_has_gone_silent(live: Live, open_page: Open) -> None:
    """The network is gone: no end of the stream arrives, nothing does."""
    server = WebServer(WebConfig(port=0), live)
    server.start()
    with Feeder(live):
        page = open_page(Client(server))
        wait_for(page, "connection", "open")
        assert server._loop is not None
        release = threading.Event()
        server._loop.call_soon_threadsafe(release.wait, 60)

        wait_for(page, "connection", "lost")
        release.set()
        wait_for(page, "connection", "open")
        wait_for_rate(page, 10)
        server.stop()


def test_page_that_nobody_sees_asks_for_nothing(live: Live, serve: Serve, open_page: Open) -> None:
    hide = """isHidden => {
      Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    client = serve()
    with Feeder(live):
        page = open_page(client)
        wait_for_rate(page, 0.1)
        page.evaluate(hide, True)
        wait_until(lambda: b'viewers{kind="pictures"} 0' in client.get("/metrics").body)
        wait_until(lambda: b'viewers{kind="predictions"} 0' in client.get("/metrics").body)

        page.evaluate(hide, False)
        wait_for(page, "connection", "open")
        wait_for_rate(page, 10)


def test_hostile_names_run_nothing_and_fit(live: Live, serve: Serve, open_page: Open) -> None:
    payload = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>" + "\u202e" + "W" * 300
    status = replace_camera(
        build_status(device_id=payload, detail=payload), source=payload, detail=payload, state="lost"
    )
    assert status.model is not None
    feeder = Feeder(live)
    feeder.label = payload
    feeder.status = msgspec.structs.replace(
        status,
        state="wedged",
        model=msgspec.structs.replace(status.model, name=payload, runtime=payload, scheme=payload),
        system=msgspec.structs.replace(status.system, board=payload),
        mqtt=MqttStatus(state="offline", detail=payload),
    )
    with feeder:
        page = open_page(serve())
        wait_for(page, "state", "wedged")
        page.locator("#label", has_text="<img src=x").wait_for()
        assert page.locator("h1").inner_text() == payload
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 1
        for width in (LAPTOP, 820, PHONE, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_page_takes_numbers_that_are_none(live: Live, serve: Serve, open_page: Open) -> None:
    nan = float("nan")
    status = build_status(fps_out=nan)
    live.put_status(msgspec.structs.replace(status, system=msgspec.structs.replace(status.system, cpu_percent=nan)))
    with Feeder(live) as feeder:
        feeder.is_paused = feeder.is_mute = True
        client = serve()
        page = open_page(client)
        wait_for(page, "state", "serving")
        feeder.is_paused = False
        page.locator("#label", has_text="T-shirt/top").wait_for()
        assert "NaN" not in page.locator("body").inner_text()


def test_browser_signs_in_once_and_stays(live: Live, serve: Serve, browser: Browser) -> None:
    client = serve(token=TOKEN)
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    with Feeder(live):
        page.goto(client.address)
        assert page.locator("h1").inner_text() == "Token needed"
        page.fill("#token", "wrong")
        page.click("button")
        page.locator(".complaint", has_text="not the token").wait_for()
        page.fill("#token", TOKEN)
        page.click("button")

        wait_for(page, "connection", "open")
        assert page.url == f"{client.address}/"
        wait_for_rate(page, 0.1)
        page.goto(f"{client.address}/?token={TOKEN}")
        assert page.url == f"{client.address}/"
        assert page.evaluate("document.cookie") == ""  # no script can read it
    context.close()


def test_text_has_contrast_in_light_and_dark(live: Live, serve: Serve, open_page: Open) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for every ink on paper and on raised boxes."""
    script = """() => {
      const style = getComputedStyle(document.documentElement);
      const light = name => {
        const [r, g, b] = style.getPropertyValue(name).trim().split(/ +/)
          .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return ["--ink", "--soft", "--accent", "--warn", "--alarm"].flatMap(
        front => ["--paper", "--raised"].map(back => ratio(light(front), light(back))));
    }"""
    live.put_status(build_status())
    client = serve()
    assert min(open_page(client, scheme="light").evaluate(script)) >= 4.5
    assert min(open_page(client, scheme="dark").evaluate(script)) >= 4.5


@pytest.mark.slow
def test_picture_comes_back_when_only_its_stream_was_cut(
    live: Live, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[connection.Connection] = []
    take = connection.Connection.data_received

    def take_and_tell(self: connection.Connection, received: bytes) -> None:
        take(self, received)
        made.append(self)

    def cut_pictures() -> None:
        for each in made:
            if each.scope["path"] == "/stream.mjpg":
                each.abort()

    monkeypatch.setattr(connection.Connection, "data_received", take_and_tell)
    server = WebServer(WebConfig(port=0), live)
    server.start()
    with Feeder(live, is_jpeg=True):
        page = open_page(Client(server))
        wait_for_rate(page, 0.1)
        first = page.evaluate("document.getElementById('picture').src")
        assert server._loop is not None
        server._loop.call_soon_threadsafe(cut_pictures)

        wait_until_true(page, "first => document.getElementById('picture').src !== first", first)
        wait_for_rate(page, 10)
        server.stop()
