"""The pure rules: what is worth a record, when to send, what a command is, what Home Assistant is told."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import jinja2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.mqtt.clock import Moment
from edgekit.agent.mqtt.commands import MAX_COMMAND_BYTES, parse_command
from edgekit.agent.mqtt.config import MqttConfig, PaceConfig, TlsConfig, check_config
from edgekit.agent.mqtt.discovery import discovery_messages
from edgekit.agent.mqtt.pacing import Allowance, Backoff, Pace
from edgekit.agent.mqtt.records import Draft, Record, encode_record, is_historical
from edgekit.agent.mqtt.reporting import Reporting, make_state
from edgekit.agent.mqtt.topics import device_topics
from edgekit.core.device_status import DeviceStatus, ThrottleStatus
from edgekit.core.errors import MissingDependencyError, UsageError
from mqtt_broker import SteppedClock, make_status

ENTITIES = {
    "sensor": {
        *("label", "confidence", "latency_p50", "latency_p90", "fps", "temperature", "model_size"),
        *("camera_state", "agent_state"),
    },
    "binary_sensor": {"camera_lost", "throttled", "drift"},
}

# https://www.home-assistant.io/integrations/sensor.mqtt and binary_sensor.mqtt: what may stand in a message, and
# https://www.home-assistant.io/integrations/sensor#device-class: which unit goes with which class.
KNOWN_KEYS = {
    *("name", "unique_id", "state_topic", "value_template", "availability_topic", "device", "origin", "qos"),
    *("device_class", "unit_of_measurement", "state_class", "entity_category", "options"),
    *("suggested_display_precision", "icon"),
}
NOT_FOR_BINARY = {"unit_of_measurement", "state_class", "options", "suggested_display_precision"}
UNITS = {"duration": {"d", "h", "min", "s", "ms"}, "temperature": {"°C", "°F", "K"}, "data_size": {"B", "kB", "MB"}}


class Watch:
    """A `Reporting` that is shown one snapshot a second."""

    def __init__(self, **settings: float) -> None:
        self.clock = SteppedClock()
        self._reporting = Reporting(**{"interval_s": 10.0, "label_hold_s": 0.0, **settings})

    def see(self, status: DeviceStatus, seconds: int = 1) -> list[Draft]:
        drafts: list[Draft] = []
        for _ in range(seconds):
            drafts += self._reporting.offer(status, self.clock.now())
            self.clock.advance(1.0)
        return drafts


def payloads(drafts: list[Draft], kind: str) -> list[dict[str, Any]]:
    return [json.loads(draft.payload) for draft in drafts if draft.kind == kind]


def test_one_status_is_recorded_each_interval() -> None:
    watch = Watch()
    drafts = watch.see(make_status(), 100)
    times = [draft.made.boot_s for draft in drafts if draft.kind == "status"]
    assert times == [100.0 + 10.0 * tick for tick in range(10)]


@pytest.mark.parametrize("jump_s", [-30 * 365 * 86400.0, 30 * 365 * 86400.0])
def test_interval_does_not_mind_when_the_clock_jumps_by_years(jump_s: float) -> None:
    watch = Watch()
    before = watch.see(make_status(), 50)
    watch.clock.unix_s += jump_s
    after = watch.see(make_status(), 50)
    assert len(payloads(before, "status")) == len(payloads(after, "status")) == 5


def test_intervals_that_were_slept_through_are_not_made_up_for() -> None:
    watch = Watch()
    watch.see(make_status(), 1)
    watch.clock.advance(1000.0)
    assert len(payloads(watch.see(make_status(), 10), "status")) == 1


def test_label_is_told_at_once_when_it_has_held() -> None:
    watch = Watch(label_hold_s=2.0)
    watch.see(make_status(label="cat"), 10)
    assert payloads(watch.see(make_status(label="dog"), 1), "prediction") == []
    assert payloads(watch.see(make_status(label="cat"), 5), "prediction") == []
    told = payloads(watch.see(make_status(label="dog"), 10), "prediction")
    assert [(report["label"], report["before"]) for report in told] == [("dog", "cat")]


def test_states_are_told_when_they_change_and_not_while_a_lost_camera_is_tried_again() -> None:
    watch = Watch()
    watch.see(make_status(), 3)
    drafts: list[Draft] = []
    for _ in range(20):
        drafts += watch.see(make_status(camera="lost", state="waiting"), 2)
        drafts += watch.see(make_status(camera="opening", state="waiting"), 1)
    drafts += watch.see(make_status())
    told = [(event["event"], event["before"], event["after"]) for event in payloads(drafts, "event")]
    assert told == [
        ("agent", "serving", "waiting"),
        ("camera", "streaming", "lost"),
        ("agent", "waiting", "serving"),
        ("camera", "lost", "streaming"),
    ]


def test_a_flutter_is_limited_counted_and_its_end_is_told() -> None:
    watch = Watch()
    drafts: list[Draft] = []
    for turn in range(1000):
        drafts += watch.see(make_status(camera=("streaming", "degraded")[turn % 2]))
    events = [event for event in payloads(drafts, "event") if event["event"] == "camera"]
    assert len(events) < 30 + 1000 / 30 + 2
    assert sum(event["num_merged"] for event in events) > 800
    end = watch.see(make_status(camera="frozen"), 60)
    assert [event["after"] for event in payloads(end, "event")] == ["frozen"]


@given(
    made_s=st.floats(0, 1e6),
    waited_s=st.floats(0, 1e6),
    connected_s=st.floats(0, 1e6),
    same_boot=st.booleans(),
    unix_s=st.floats(-1e10, 1e10),
)
def test_records_are_historical_when_older_than_interval_or_connection(
    made_s: float, waited_s: float, connected_s: float, same_boot: bool, unix_s: float
) -> None:
    made = Moment(unix_s=unix_s, boot_s=made_s, boot_id="a")
    now = Moment(unix_s=0.0, boot_s=made_s + waited_s, boot_id="a" if same_boot else "b")
    connected = Moment(unix_s=0.0, boot_s=connected_s, boot_id=now.boot_id)
    expected = not same_boot or made_s < connected_s or now.boot_s - made.boot_s > 10.0
    assert is_historical(made, now, connected, 10.0) is expected


def test_record_says_who_when_and_which() -> None:
    clock = SteppedClock()
    record = Record(sequence=41, kind="event", made=clock.now(), payload=b'{"event": "x"}')
    said = encode_record(record, device="cam-1", now=clock.now(), connected=clock.now(), interval_s=10.0)
    assert json.loads(said) == {
        "device": "cam-1",
        "sequence": 41,
        "kind": "event",
        "time_unix_s": 1_790_000_000.0,
        "historical": False,
        "payload": {"event": "x"},
    }


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), max_size=60))
def test_pace_keeps_rate_window_and_first_limit(steps: list[tuple[float, int]]) -> None:
    config = PaceConfig(max_in_flight=20, records_per_s=50.0, first_records=100, first_s=30.0)
    pace, now_s, in_flight, num_sent = Pace(config, 0.0), 0.0, 0, 0
    for pause_s, num_answered in steps:
        now_s += pause_s
        in_flight -= min(in_flight, num_answered)
        allowed = pace.allowance(now_s, in_flight)
        pace.sent(allowed)
        in_flight += allowed
        num_sent += allowed
        assert in_flight <= 20
        assert num_sent <= max(20, 0.25 * 50.0) + 50.0 * now_s + 1e-6
        assert now_s >= 30.0 or num_sent <= 100


def test_pace_goes_on_when_the_first_seconds_are_over() -> None:
    pace = Pace(PaceConfig(max_in_flight=20, first_records=20, first_s=30.0), 0.0)
    pace.sent(pace.allowance(0.0, 0))
    assert pace.allowance(29.0, 0) == 0
    assert pace.wait_s(29.0) == pytest.approx(1.0)
    assert pace.allowance(30.0, 0) == 20


def test_pauses_double_to_their_limit_with_jitter_and_begin_anew_when_reset() -> None:
    backoff = Backoff(0.5, 60.0, seed=1)
    pauses = [backoff.pause_s() for _ in range(50)]
    for attempt, pause in enumerate(pauses):
        longest = min(60.0, 0.5 * 2**attempt)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses[10:])) > 30
    backoff.reset()
    assert backoff.pause_s() <= 0.5


def test_allowance_lets_a_burst_through_and_then_one_each_period() -> None:
    allowance = Allowance(3, 10.0)
    assert [allowance.take(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(time_s) for time_s in (9.0, 10.5, 11.0, 21.0)] == [False, True, False, True]


@pytest.mark.parametrize("name", ["announce", "report"])
def test_commands_are_understood(name: str) -> None:
    command = parse_command(json.dumps({"command": name}).encode())
    assert command is not None
    assert command.command == name


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"report",
        b"null",
        b"[]",
        b'{"command": "reboot"}',
        b'{"command": ["report"]}',
        b'{"command": NaN}',
        b'{"command": "report", "command2": 1}',
        b'{"command": "report"}{"command": "report"}',
        b"[" * 10_000,
        b"[" * 1000,
        b'{"x":' * 200 + b"1" + b"}" * 200,
        b"\xff\xfe",
        b'{"command": "report"}' + b" " * MAX_COMMAND_BYTES,
        b"x" * 10_000_000,
    ],
    ids=lambda payload: f"{len(payload)}-{payload[:12]!r}",
)
def test_anything_else_is_no_command(payload: bytes) -> None:
    assert parse_command(payload) is None


@given(st.binary(max_size=2000))
def test_no_bytes_make_parsing_fail(payload: bytes) -> None:
    assert parse_command(payload) is None or b"command" in payload


def described() -> dict[tuple[str, str], dict[str, Any]]:
    topics = device_topics(MqttConfig(), "cam.1")
    messages = discovery_messages(topics, device_id="cam.1", board="raspberry_pi_4b", version="0.1.0")
    parts = [(message.topic.split("/"), json.loads(message.payload)) for message in messages]
    assert all(
        topic[0] == "homeassistant" and topic[2] == "edgekit_cam_1" and topic[4] == "config" for topic, _ in parts
    )
    return {(topic[1], topic[3]): payload for topic, payload in parts}


def test_home_assistant_is_told_of_every_entity_in_its_own_words() -> None:
    entities = described()
    assert {(kind, key) for kind, keys in ENTITIES.items() for key in keys} == set(entities)
    assert len({entity["unique_id"] for entity in entities.values()}) == len(entities)
    for (kind, _), entity in entities.items():
        assert set(entity) <= KNOWN_KEYS - (NOT_FOR_BINARY if kind == "binary_sensor" else set())
        assert entity["state_topic"] == "edgekit/cam.1/state"
        assert entity["availability_topic"] == "edgekit/cam.1/availability"
        assert entity["device"]["identifiers"] == ["edgekit_cam_1"]
        assert entity["device"]["model"] == "raspberry_pi_4b"
        assert entity["origin"]["name"] == "edgekit"
        assert entity.get("unit_of_measurement") in UNITS.get(entity.get("device_class", ""), {None, "%", "fps"})
        if "options" in entity:  # Home Assistant refuses options beside a unit or a state class
            assert entity["device_class"] == "enum"
            assert not {"unit_of_measurement", "state_class"} & set(entity)


def render(kind: str, key: str, status: DeviceStatus) -> str:
    """What Home Assistant makes of a state: it renders the template with Jinja over the JSON object."""
    state = json.loads(msgspec.json.encode(make_state(status)))
    template = jinja2.Environment(autoescape=True).from_string(described()[kind, key]["value_template"])
    return template.render(value_json=state)


def test_templates_read_the_state_topic() -> None:
    status = make_status(label="cat", camera="frozen", flags=("blur",))
    slowed = msgspec.structs.replace(status.system, throttle=ThrottleStatus(throttled=True))
    status = msgspec.structs.replace(status, system=slowed)
    assert render("sensor", "label", status) == "cat"
    assert float(render("sensor", "confidence", status)) == pytest.approx(87.0)
    assert float(render("sensor", "temperature", status)) == pytest.approx(55.0)
    assert render("sensor", "camera_state", status) == "frozen"
    assert {render("binary_sensor", key, status) for key in ENTITIES["binary_sensor"]} == {"ON"}
    assert {render("binary_sensor", key, make_status()) for key in ("camera_lost", "drift")} == {"OFF"}


def test_templates_say_none_when_nothing_is_known() -> None:
    status = msgspec.structs.replace(make_status(label=None), drift=None)
    for kind, key in (
        ("sensor", "label"),
        ("sensor", "confidence"),
        ("sensor", "latency_p90"),
        ("sensor", "model_size"),
    ):
        assert render(kind, key, status) == "None"
    assert render("binary_sensor", "drift", status) == render("binary_sensor", "throttled", status) == "None"


@pytest.mark.parametrize(
    ("config", "device_id", "expected"),
    [
        (MqttConfig(), "kitchen/1", "device id"),
        (MqttConfig(), "", "device id"),
        (MqttConfig(base_topic="a/#"), "cam-1", "base_topic"),
        (MqttConfig(base_topic=""), "cam-1", "base_topic"),
        (MqttConfig(host=""), "cam-1", "host"),
        (MqttConfig(port=0), "cam-1", "port is 0"),
        (MqttConfig(max_bytes=1000), "cam-1", "max_bytes is 1000"),
        (MqttConfig(interval_s=math.nan), "cam-1", "interval_s is nan"),
        (MqttConfig(pace=PaceConfig(max_in_flight=0)), "cam-1", "pace.max_in_flight is 0"),
    ],
)
def test_config_that_cannot_work_is_refused(config: MqttConfig, device_id: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        check_config(config, device_id)


def test_port_follows_tls_when_none_is_given() -> None:
    assert MqttConfig().broker_port == 1883
    assert MqttConfig(tls=TlsConfig()).broker_port == 8883
    assert MqttConfig(tls=TlsConfig(), port=1).broker_port == 1


def test_config_reads_from_toml() -> None:
    text = 'host = "broker"\nport = 8884\n[tls]\nca_file = "ca.pem"\n[pace]\nrecords_per_s = 100\n'
    config = msgspec.toml.decode(text, type=MqttConfig)
    assert (config.broker_port, config.tls, config.pace.records_per_s) == (8884, TlsConfig(ca_file="ca.pem"), 100.0)
    with pytest.raises(msgspec.ValidationError, match="password"):
        msgspec.toml.decode('password = "never here"', type=MqttConfig)


def test_missing_paho_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.agent.mqtt.publisher import MqttPublisher

    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingDependencyError) as caught:
        MqttPublisher(MqttConfig(), "cam-1")
    assert caught.value.hint == "pip install edgekit[agent]"


def test_importing_the_publisher_imports_no_paho() -> None:
    code = "import sys, edgekit.agent.mqtt.publisher; print([name for name in sys.modules if name.startswith('paho')])"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"
