"""Nothing is tuned for a stream: the packages know no recorded stream, by its name or by the names of its columns."""

import re
from pathlib import Path

import pytest

from tests.benchmarks.quality.streams import CLASSIFICATION, MULTILABEL, REGRESSION
from tests.recorded import STREAMS

ROOT = Path(__file__).parent.parent
PACKAGES = ("connectors", "streamnn", "pipeline", "deploy")
EXAMPLES = ROOT / "deploy" / "examples"  # an example is made of a stream
FURTHER = ("shuttle", "sms_spam", "spam_full", "tinyshakespeare", "ml_20ng", "mtr_wq", "mtr_enb", "mnist", "nab")
FAMILIES = re.compile(r"^(ml|mtr)_")
# what others call them: parts of names, and river where it is not the name without its underscores
ALSO = (
    "bikes",
    "toulouse",
    "noaa",
    "trump",
    "emotions",
    "electricity",
    "insects",
    "shakespeare",
    "newsgroups",
    "etth2",
)
COLUMNS = (
    *("nswprice", "nswdemand", "vicprice", "vicdemand"),
    *("five_thirty_eight", "ordinal_date", "gallup", "ipsos", "morning_consult", "rasmussen", "you_gov"),
    *("is_phishing", "empty_server_form_handler", "popup_window", "anchor_from_other_domain", "age_of_domain"),
    *("region_centroid_col", "short_line_density_5", "vegde_sd", "rawred_mean", "exgreen_mean", "hue_mean"),
    *("cover_type", "hillshade_9am", "hillshade_noon", "soil_type1", "wilderness_area1"),
    *("hufl", "hull", "mufl", "mull", "lufl", "lull"),
    *("class_number_of_rings", "shucked_weight", "viscera_weight", "shell_weight"),
    *("load_type", "usage_kwh", "weekstatus", "day_of_week", "nsm", "lagging_current_power_factor"),
    *("sessionsa", "sessionsb", "ismissing", "std_temp", "std_ph", "kmno4", "k2cr2o7", "relative_compactness"),
    *("anomaly_point", "anomaly_window", "amazed_suprised", "quiet_still", "feat_1", "att1"),
)
# how a data set of river is asked for, in help texts
SHOWN = re.compile(r"river:Phishing|a name such as `Phishing`")
KINDS = {".py", ".c", ".toml", ".yaml", ".json"}


def names():
    """The recorded streams, as files, without their family and as others call them."""
    full = {name for name, _, _ in (*CLASSIFICATION, *REGRESSION, *MULTILABEL)} | {s.name for s in STREAMS} | {*FURTHER}
    return full | {FAMILIES.sub("", name) for name in full} | {*ALSO}


def pattern(words):
    """What finds words, however they are spelled: image_segments, image-segments, ImageSegments."""
    spelled = sorted("[ _.-]?".join(map(re.escape, word.split("_"))) for word in words)
    return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(spelled)})(?![A-Za-z0-9])", re.IGNORECASE)


def places(found):
    """The lines of the packages in which a pattern is found."""
    files = [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in KINDS and EXAMPLES not in path.parents
    ]
    assert len(files) > 50
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if found.search(SHOWN.sub("", line))
    ]


@pytest.mark.parametrize("words", [names(), COLUMNS], ids=["streams", "columns"])
def test_no_package_names_a_recorded_stream(words):
    """A name of a stream or of one of its columns may stand in no string, comparison or path of ours."""
    found = places(pattern(words))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        *(
            'if name == "ml_yeast":',
            "# as yeast has",
            "river:TrumpApproval",
            "ImageSegments",
            "web-traffic",
            "20NG",
            "x_wq",
        ),
        *('"enb.csv"', "the enron mails", "SMSSpam", "Bikes()", "Elec2"),
    ],
)
def test_a_stream_is_found_however_it_is_spelled(line):
    """Short names too, with and without their family, and river's spellings; words that only contain one are none."""
    assert pattern(names()).search(line)
    assert not pattern(names()).search("unable, annabel, enbase, wqx, elec20, beast")


@pytest.mark.parametrize("line", ['columns["nswprice"]', '"Load_Type"', "CO2, NSM", "region-centroid-col", "sessionsB"])
def test_a_column_is_found(line):
    """In any case, with any signs between its words."""
    assert pattern(COLUMNS).search(line)
