"""The recorded streams of the comparison, what is predicted in each, and generated ones whose concept moves."""

import shlex
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

# opened for the first time when all constants stood; a name that begins with synth: is a generator
NEW = (
    ("shuttle", "shuttle.csv.gz --target anomaly --task binary"),
    ("mnist_test", "mnist_test.csv.gz --target label --task multiclass"),
    ("waveform", "synth:Waveform?has_noise=True --target target --task multiclass"),
    ("random_tree", "synth:RandomTree?n_classes=4 --target target --task multiclass"),
    ("mixed", "synth:Mixed --target target"),
    ("stagger", "'synth:STAGGER -> STAGGER?classification_function=1 @ 2000' --target target"),
)
NEW_VALUES = (
    ("water_flow", "river:WaterFlow"),
    ("chick_weights", "river:ChickWeights"),
    ("friedman", "synth:Friedman --target target"),
    ("friedman_drift", "synth:FriedmanDrift?position=(2000,3000,4000)&transition_window=500 --target target"),
    ("mv", "synth:Mv --target target"),
    ("planes", "synth:Planes2D --target target"),
)


def recorded(folder: Path, task: str) -> list[Stream]:
    """Return the recorded streams of a task: "classification" or "regression" of one target, or "multilabel"."""
    table = {"classification": CLASSIFICATION, "regression": REGRESSION, "multilabel": MULTILABEL}[task]
    return [
        Stream(name, (str(folder / f"{name}.csv.gz"), *words)) for name, words, _ in table if "multitarget" not in words
    ]


def new(folder: Path, task: str) -> list[Stream]:
    """Return the streams that nobody had looked at, of "classification" or "regression"."""
    found = []
    for name, text in {"classification": NEW, "regression": NEW_VALUES}.get(task, ()):
        source, *words = shlex.split(text)
        found.append(Stream(name, (source if ":" in source else str(folder / source), *words)))
    return found
