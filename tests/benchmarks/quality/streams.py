"""The recorded streams of the comparison, what is predicted in each, and generated ones whose concept moves."""

from pathlib import Path

from pipeline.bench.quality.streams import Stream

CLASSIFICATION = (
    ("elec2", ("--target", "class"), "accuracy"),
    ("phishing", ("--target", "is_phishing"), "accuracy"),
    ("bananas", ("--target", "class", "--task", "binary"), "accuracy"),
    ("image_segments", ("--target", "category"), "accuracy"),
    ("weather_noaa", ("--target", "target"), "accuracy"),
    ("keystroke", ("--target", "class", "--task", "multiclass"), "accuracy"),
    ("luxembourg", ("--target", "target", "--task", "binary"), "accuracy"),
    ("outdoor", ("--target", "class", "--task", "multiclass"), "accuracy"),
    ("rialto", ("--target", "class", "--task", "multiclass", "--limit", "30000"), "accuracy"),
    ("covtype", ("--target", "Cover_Type", "--task", "multiclass", "--limit", "100000"), "accuracy"),
    ("steel_industry", ("--target", "Load_Type", "--categorical", "WeekStatus,Day_of_week"), "accuracy"),
)
REGRESSION = (
    ("abalone", ("--target", "Class_number_of_rings", "--task", "regression", "--categorical", "Sex"), "mae"),
    ("etth1", ("--target", "OT", "--limit", "20000"), "mae"),
    ("bikes_toulouse", ("--target", "bikes", "--task", "regression", "--limit", "20000"), "mae"),
    ("trump_approval", ("--target", "five_thirty_eight"), "mae"),
    (
        "web_traffic",
        ("--target", "sessionsA,sessionsB", "--task", "multitarget", "--limit", "20000"),
        "mae",
    ),
    (
        "steel_industry",
        ("--target", "Usage_kWh", "--categorical", "WeekStatus,Day_of_week,Load_Type", "--limit", "20000"),
        "mae",
    ),
)
MULTILABEL = (
    ("ml_yeast", ("--targets-last", "14"), "f1_micro"),
    ("ml_music_emotions", ("--targets-last", "6"), "f1_micro"),
    ("ml_enron", ("--targets-last", "53"), "f1_micro"),
)


def recorded(folder: Path, task: str) -> list[Stream]:
    """Return the recorded streams of a task: "classification" or "regression" of one target, or "multilabel"."""
    table = {"classification": CLASSIFICATION, "regression": REGRESSION, "multilabel": MULTILABEL}[task]
    return [
        Stream(name, (str(folder / f"{name}.csv.gz"), *words)) for name, words, _ in table if "multitarget" not in words
    ]
