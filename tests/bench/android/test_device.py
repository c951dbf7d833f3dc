"""What a phone says is read right, and what it does not say is not guessed."""

from stand_in_phone import PHONE

from bitat_tf.android_results import CoreRecord, HeatRecord
from bitat_tf.bench.android.device import (
    parse_battery,
    parse_cores,
    parse_heat,
    parse_properties,
)

BATTERY = (PHONE / "dumpsys/battery").read_text()
THERMAL = (PHONE / "dumpsys/thermalservice").read_text().replace("@SKIN@", "37.5")


def test_heat_is_the_skins_fresh_one_or_else_the_batterys():
    assert parse_heat(THERMAL, BATTERY) == HeatRecord(37.5, "skin", 0)
    assert parse_heat("Can't find service: thermalservice", BATTERY) == HeatRecord(29.8, "battery")
    assert parse_heat(THERMAL.replace("Status: 0", "Status: 3"), "").status == 3
    absurd = THERMAL.replace("=37.5", "=-274.0")
    assert parse_heat(absurd, BATTERY) == HeatRecord(29.8, "battery", 0)
    assert parse_heat(THERMAL.replace("=37.5", "=NaN"), "") == HeatRecord(None, "", 0)
    assert parse_heat("", "") == HeatRecord()


def test_cores_are_read_by_index_and_offline_ones_have_no_frequency():
    text = "/sys/x/cpu10|2000000|1500000|performance\n/sys/x/cpu2|||\nnoise\n/sys/x/cpufreq|1|1|g\n"
    assert parse_cores(text) == (
        CoreRecord(2),
        CoreRecord(10, 2_000_000, 1_500_000, "performance"),
    )


def test_properties_and_battery():
    properties = parse_properties((PHONE / "getprop.txt").read_text() + "[a]: [b]: [c]]\nnoise")
    assert properties["ro.soc.model"] == "GS-101"
    assert properties["a"] == "b]: [c]"
    assert parse_battery(BATTERY)["USB powered"] == "true"
