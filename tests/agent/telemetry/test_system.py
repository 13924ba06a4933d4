"""Facts of boards, read from trees as real boards show them, and from trees that lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.agent.telemetry.processes import ProcessMeter, read_pss_mib, read_usage
from edgekit.agent.telemetry.sensors import Sensors, read_number
from edgekit.agent.telemetry.system import SystemReader
from edgekit.core.board import FactSources, load_board
from edgekit.core.device_status import PowerRail, ThrottleStatus

THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def put(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def zones(*readings: tuple[str, str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for index, (kind, value) in enumerate(readings):
        files[f"sys/class/thermal/thermal_zone{index}/type"] = f"{kind}\n"
        files[f"sys/class/thermal/thermal_zone{index}/temp"] = f"{value}\n"
    return files


def cooling(*states: tuple[str, str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for index, (kind, state) in enumerate(states):
        files[f"sys/class/thermal/cooling_device{index}/type"] = f"{kind}\n"
        files[f"sys/class/thermal/cooling_device{index}/cur_state"] = f"{state}\n"
    return files


def sensors(board: str, root: Path) -> Sensors:
    return Sensors(load_board(board).facts.facts, root)


PI_4 = {**zones(("cpu-thermal", "51608")), THROTTLED: "0\n"}

JETSON_NANO = {
    **zones(
        ("AO-therm", "41500"), ("CPU-therm", "34000"), ("GPU-therm", "31000"), ("PLL-therm", "31500"),
        ("PMIC-Die", "100000"), ("thermal-fan-est", "33000"), ("iwlwifi", "39000"),
    ),
    **cooling(("pwm-fan", "3"), ("cpu-balanced", "0"), ("gpu-balanced", "0")),
    **{
        f"sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/{name}": value
        for name, value in {
            "rail_name_0": "POM_5V_IN\n", "in_voltage0_input": "4992\n", "in_current0_input": "512\n",
            "rail_name_1": "POM_5V_GPU\n", "in_voltage1_input": "4984\n", "in_current1_input": "24\n",
            "rail_name_2": "POM_5V_CPU\n", "in_voltage2_input": "4976\n", "in_current2_input": "120\n",
        }.items()
    },
}  # fmt: skip

INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
JETSON_ORIN_NANO = {
    **zones(("cpu-thermal", "51718"), ("gpu-thermal", "48500"), ("cv0-thermal", ""), ("tj-thermal", "52406")),
    **cooling(("pwm-fan", "2"), ("cpu-throttle-alert", "0"), ("gpu-throttle-alert", "0"), ("hot-surface-alert", "1")),
    "sys/class/hwmon/hwmon2/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon2/oc2_event_cnt": "0\n",
    "sys/class/hwmon/hwmon2/oc3_event_cnt": "37\n",
    **{
        f"{INA}/{name}": value
        for name, value in {
            "in1_label": "VDD_IN\n", "in1_input": "4984\n", "curr1_input": "1856\n",
            "in2_label": "VDD_CPU_GPU_CV\n", "in2_input": "4976\n", "curr2_input": "552\n",
            "in3_label": "VDD_SOC\n", "in3_input": "4976\n", "curr3_input": "480\n",
            "in4_input": "0\n", "in7_label": "sum of shunt voltages\n", "in7_input": "14\n", "curr4_input": "2888\n",
        }.items()
    },
}  # fmt: skip


def test_raspberry_pi_tells_temperature_and_throttling(tmp_path: Path) -> None:
    pi = sensors("raspberry_pi_4b", put(tmp_path, PI_4))

    assert pi.temperature_c() == pytest.approx(51.608)
    assert pi.throttle() == ThrottleStatus()
    assert pi.power_rails() == ()
    put(tmp_path, {THROTTLED: "d0005\n"})
    assert pi.throttle() == ThrottleStatus(
        under_voltage=True, throttled=True, has_occurred=("soft_temperature_limit", "throttled", "under_voltage")
    )


def test_firmware_word_is_found_where_a_newer_kernel_has_it(tmp_path: Path) -> None:
    put(tmp_path, {"sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "2\n"})

    assert sensors("raspberry_pi_5", tmp_path).throttle() == ThrottleStatus(frequency_capped=True)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo throttled=0x10001", ThrottleStatus(under_voltage=True, has_occurred=("under_voltage",))),
        ("echo VCHI initialization failed; exit 1", None),
        ("echo 'error=1 error_msg=\"Command not registered\"'", None),
        ("printf '\\377\\376'", None),
    ],
)  # fmt: skip
def test_vcgencmd_is_asked_where_the_kernel_shows_no_word(
    tmp_path: Path, script: str, expected: ThrottleStatus | None
) -> None:
    put(tmp_path, {"usr/bin/vcgencmd": f"#!/bin/sh\n{script}\n"})
    (tmp_path / "usr/bin/vcgencmd").chmod(0o755)

    assert sensors("raspberry_pi_4b", tmp_path).throttle() == expected


def test_voltage_alarm_speaks_where_the_firmware_does_not(tmp_path: Path) -> None:
    alarm = "sys/class/hwmon/hwmon1/in0_lcrit_alarm"
    put(tmp_path, {"sys/class/hwmon/hwmon1/name": "rpi_volt\n", alarm: "1\n", "usr/bin/vcgencmd": "not executable"})
    pi = sensors("raspberry_pi_4b", tmp_path)

    assert pi.throttle() == ThrottleStatus(under_voltage=True)
    put(tmp_path, {alarm: "0\n"})
    assert pi.throttle() == ThrottleStatus()


def test_jetson_nano_leaves_out_the_zone_that_always_says_100(tmp_path: Path) -> None:
    nano = sensors("jetson_nano", put(tmp_path, JETSON_NANO))

    assert nano.temperature_c() == 41.5
    assert nano.throttle() == ThrottleStatus()
    assert [rail.name for rail in nano.power_rails()] == ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]
    assert nano.power_rails()[0] == PowerRail(name="POM_5V_IN", volts=4.992, amperes=0.512, watts=4.992 * 0.512)


def test_jetson_orin_passes_over_dark_zones_fans_and_sums(tmp_path: Path) -> None:
    orin = sensors("jetson_orin_nano", put(tmp_path, JETSON_ORIN_NANO))

    assert orin.temperature_c() == 52.406
    assert [rail.name for rail in orin.power_rails()] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    assert orin.power_rails()[0].watts == pytest.approx(4.984 * 1.856)
    assert orin.throttle() == ThrottleStatus(has_occurred=("over_current",))  # a fan and a warm surface slow nothing
    put(tmp_path, cooling(("pwm-fan", "2"), ("cpu-throttle-alert", "1")))
    assert orin.throttle() == ThrottleStatus(throttled=True, has_occurred=("over_current",))


def test_jetson_orin_counts_low_voltage_from_one_look_to_the_next(tmp_path: Path) -> None:
    orin = sensors("jetson_orin_nano", put(tmp_path, JETSON_ORIN_NANO))
    counter = "sys/class/hwmon/hwmon2/oc1_event_cnt"
    orin.throttle()

    put(tmp_path, {counter: "2\n"})
    now = orin.throttle()
    assert now is not None
    assert now.under_voltage
    assert now.has_occurred == ("over_current", "under_voltage")
    later = orin.throttle()
    assert later is not None
    assert not later.is_slowed
    put(tmp_path, {counter: "0\n"})  # the driver was loaded anew
    again = orin.throttle()
    assert again is not None
    assert not again.is_slowed


@pytest.mark.parametrize(
    "reading", ["", "\n", "hot", "nan", "inf", "-256000", "-273150", "999000", "1e300", "\x00\x01"]
)
def test_absurd_temperatures_are_not_known(tmp_path: Path, reading: str) -> None:
    pi = sensors("raspberry_pi_4b", put(tmp_path, zones(("cpu-thermal", reading))))

    assert pi.temperature_c() is None


@pytest.mark.parametrize("word", ["", "zzz", "-1", "1" * 40, "0x", "5 0"])
def test_absurd_firmware_words_are_not_known(tmp_path: Path, word: str) -> None:
    assert sensors("raspberry_pi_4b", put(tmp_path, {THROTTLED: word})).throttle() is None


@pytest.mark.parametrize(
    ("volts", "amperes"), [("-5", "100"), ("9e9", "1"), ("5000", "99999999"), ("", "1"), ("x", "1")]
)
def test_absurd_power_is_left_out(tmp_path: Path, volts: str, amperes: str) -> None:
    put(tmp_path, {**JETSON_ORIN_NANO, f"{INA}/in1_input": volts, f"{INA}/curr1_input": amperes})

    assert [rail.name for rail in sensors("jetson_orin_nano", tmp_path).power_rails()] == ["VDD_CPU_GPU_CV", "VDD_SOC"]


@pytest.mark.parametrize("board", ["raspberry_pi_4b", "jetson_nano", "jetson_orin_nano", "host_cpu"])
def test_a_board_that_tells_nothing_is_read_all_the_same(tmp_path: Path, board: str) -> None:
    status = SystemReader(load_board(board), root=tmp_path).read()

    assert (status.temperature_c, status.throttle, status.power_rails) == (None, None, ())
    assert (status.cpu_percent, status.rss_mib, status.pss_mib) == (0.0, 0.0, None)


def test_folders_where_files_should_be_are_no_facts(tmp_path: Path) -> None:
    for name in ("sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone1/temp", THROTTLED):
        (tmp_path / name).mkdir(parents=True)
    put(tmp_path, {"sys/class/thermal/thermal_zone1/type": "cpu-thermal\n"})
    pi = sensors("raspberry_pi_4b", tmp_path)

    assert (pi.temperature_c(), pi.throttle()) == (None, None)


def test_cooling_devices_of_no_interest_tell_nothing(tmp_path: Path) -> None:
    put(tmp_path, cooling(("Processor", "3"), ("pwm-fan", "255")))

    assert Sensors(FactSources(throttling_devices=("*-throttle-alert",)), tmp_path).throttle() is None


def test_read_number_takes_the_number_before_a_unit(tmp_path: Path) -> None:
    put(tmp_path, {"limit": "32760 ma\n", "words": "about 3\n"})

    assert read_number(tmp_path / "limit") == 32760
    assert read_number(tmp_path / "words") is None
    assert read_number(tmp_path / "missing") is None


def stat(started: int, user: int, system: int, pages: int, name: str = "python3") -> str:
    before = f"7 ({name}) S " + "0 " * 10
    return f"{before}{user} {system} " + "0 " * 6 + f"{started} 0 {pages} " + "0 " * 20 + "\n"


def test_processor_time_and_memory_of_a_group_that_changes(tmp_path: Path) -> None:
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    put(tmp_path, {"7/stat": stat(50, 2 * ticks, ticks, 256), "8/stat": stat(60, ticks, 0, 256)})
    meter = ProcessMeter(tmp_path)
    assert meter.read((7, 8), 10.0) == 0.0
    assert meter.rss_mib == pytest.approx(512 * page / 2**20)

    put(tmp_path, {"7/stat": stat(50, 2 * ticks + ticks // 2, ticks, 256, "a) S 1 (b"), "8/stat": "torn"})
    assert meter.read((7, 8), 12.0) == pytest.approx(25.0)

    # Its child was started anew, and happens to get the number of the old one.
    put(tmp_path, {"8/stat": stat(99, ticks // 5, 0, 256)})
    assert meter.read((7, 8), 14.0) == pytest.approx(10.0)
    assert meter.read((7, 8), 14.01) == pytest.approx(10.0)


def test_this_process_is_read_from_the_real_proc() -> None:
    reader = SystemReader(load_board("host_cpu"), lambda: (os.getpid(),))
    status = reader.read()

    assert 5 < status.rss_mib < 10_000
    assert status.pss_mib is None or 1 < status.pss_mib <= status.rss_mib * 1.5
    assert 0 <= status.cpu_percent < 6400
    assert read_usage(os.getpid(), Path("/proc")) is not None
    assert read_usage(2**22 + 1, Path("/proc")) is None
    assert read_pss_mib(2**22 + 1, Path("/proc")) is None


def test_processor_time_is_what_was_burnt(clock: Callable[[], float]) -> None:
    reader = SystemReader(load_board("host_cpu"), clock=clock)
    started = os.times()
    while (spent := sum(os.times()[:2]) - sum(started[:2])) < 0.3:
        sum(range(10_000))
    clock.now_s += 1.0  # type: ignore[attr-defined]

    assert reader.read().cpu_percent == pytest.approx(100 * spent, abs=15)
