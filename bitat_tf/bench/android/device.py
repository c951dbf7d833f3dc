"""What a phone says of itself: pure readers of `getprop`, `/sys` and `dumpsys`, and one that asks.

Phones differ in what they let a shell read. What cannot be read is None or empty in the record;
it is never guessed.
"""

import re
from collections.abc import Mapping

from bitat_tf.android_results import CoreRecord, DeviceRecord, HeatRecord
from bitat_tf.bench.android.adb import Adb

# One line per core: path|highest frequency|highest allowed frequency|governor. Constant: no
# foreign word is in it. An offline core has no cpufreq directory.
_CORES_SCRIPT = """\
for core in /sys/devices/system/cpu/cpu[0-9]*; do
f=$core/cpufreq
echo "$core|$(cat $f/cpuinfo_max_freq 2>/dev/null)|$(cat $f/scaling_max_freq 2>/dev/null)\
|$(cat $f/scaling_governor 2>/dev/null)"
done"""

_PROPERTY = re.compile(r"^\[(?P<key>[^\]]+)\]: \[(?P<value>.*)\]$")
_TEMPERATURE = re.compile(
    r"Temperature\{mValue=(?P<value>-?[0-9]+(?:\.[0-9]+)?), mType=(?P<type>[0-9]+), mName=[^,]*,"
)
_SKIN = "3"  # android.os.Temperature.TYPE_SKIN
_STATUS = re.compile(r"^Thermal Status: ([0-9]+)\s*$", re.MULTILINE)
_FRESH = "Current temperatures from HAL:"
# Sensors that are not there report absurd values, e.g. -274 or 1000.
_PLAUSIBLE_CELSIUS = (-40.0, 150.0)
_POWER = ("AC", "USB", "Wireless", "Dock")


def read_device(adb: Adb) -> DeviceRecord:
    """Ask the phone for everything that a figure should be read with.

    Raises:
        MeasurementError: when the connection broke.
    """
    properties = parse_properties(adb.shell("getprop").stdout)
    battery = parse_battery(adb.shell("dumpsys", "battery").stdout)
    level = battery.get("level", "")
    power = [name for name in _POWER if battery.get(f"{name} powered") == "true"]
    abis = properties.get("ro.product.cpu.abilist") or properties.get("ro.product.cpu.abi", "")
    return DeviceRecord(
        serial=adb.serial,
        model=_model(properties),
        soc=_soc(properties),
        abi=properties.get("ro.product.cpu.abi", ""),
        abis=tuple(abi for abi in abis.split(",") if abi),
        android=properties.get("ro.build.version.release", ""),
        sdk=properties.get("ro.build.version.sdk", ""),
        cores=parse_cores(adb.script(_CORES_SCRIPT, what="reading the cores").stdout),
        battery_percent=int(level) if level.isascii() and level.isdigit() else None,
        power=(power[0].replace("Wireless", "wireless") if power else "battery") if battery else "",
        heat=read_heat(adb),
    )


def read_heat(adb: Adb) -> HeatRecord:
    """How hot the phone is now.

    Raises:
        MeasurementError: when the connection broke.
    """
    thermal = adb.shell("dumpsys", "thermalservice").stdout
    return parse_heat(thermal, adb.shell("dumpsys", "battery").stdout)


def parse_properties(text: str) -> dict[str, str]:
    """The properties that `getprop` prints as `[key]: [value]`."""
    matches = (_PROPERTY.match(line) for line in text.splitlines())
    return {match["key"]: match["value"] for match in matches if match}


def parse_cores(text: str) -> tuple[CoreRecord, ...]:
    """The cores in the output of `_CORES_SCRIPT`, by index."""
    cores = []
    for line in text.splitlines():
        path, _, rest = line.partition("|")
        index = path.rpartition("/cpu")[2]
        fields = rest.split("|")
        if not (index.isascii() and index.isdigit()) or len(fields) != 3:
            continue
        cores.append(CoreRecord(int(index), _khz(fields[0]), _khz(fields[1]), fields[2].strip()))
    return tuple(sorted(cores, key=lambda core: core.index))


def _khz(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def parse_battery(text: str) -> dict[str, str]:
    """The fields of `dumpsys battery`, e.g. `{"level": "85", "USB powered": "true"}`."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon and value.strip()}


def parse_heat(thermalservice: str, battery: str) -> HeatRecord:
    """Temperature of the skin sensor, or else of the battery, and Android's thermal status.

    The skin sensor is what Android throttles by; the battery's, in tenths of a degree, is on
    every phone, but slow.

    Args:
        thermalservice: of `dumpsys thermalservice`, which exists since Android 10.
        battery: of `dumpsys battery`.
    """
    status = _STATUS.search(thermalservice)
    # Below the line of fresh values if there is one; above it stand cached ones.
    fresh = thermalservice.rpartition(_FRESH)[2]
    skin = [float(m["value"]) for m in _TEMPERATURE.finditer(fresh) if m["type"] == _SKIN]
    skin = [value for value in skin if _plausible(value)]
    tenths = parse_battery(battery).get("temperature", "")
    celsius, source = None, ""
    if skin:
        celsius, source = max(skin), "skin"
    elif re.fullmatch(r"-?[0-9]{1,5}", tenths) and _plausible(int(tenths) / 10):
        celsius, source = int(tenths) / 10, "battery"
    return HeatRecord(celsius, source, int(status[1]) if status else None)


def _plausible(celsius: float) -> bool:
    low, high = _PLAUSIBLE_CELSIUS
    return low < celsius < high


def _model(properties: Mapping[str, str]) -> str:
    maker, model = (properties.get(f"ro.product.{key}", "") for key in ("manufacturer", "model"))
    return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()


def _soc(properties: Mapping[str, str]) -> str:
    """Android 12 and later name the chip; before that the platform's code name must do."""
    maker, model = (properties.get(f"ro.soc.{key}", "") for key in ("manufacturer", "model"))
    platform = properties.get("ro.board.platform") or properties.get("ro.hardware", "")
    return f"{maker} {model}".strip() if model else platform
