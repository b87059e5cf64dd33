"""Where records come from and where results go: sources, sinks, and what travels between."""

from connectors.base import Codec, Sink, Source
from connectors.errors import ConnectorError, SchemaError, SinkError, SourceError
from connectors.file_sinks import open_dead_letters, open_predictions
from connectors.json_records import JsonCodec
from connectors.labels import LabelledCodec, event_schema, label_schema
from connectors.memory import Cut, End, Fail, MemorySink, MemorySource, Nothing, Step, records_of
from connectors.records import (
    Chunk,
    Column,
    DeadLetter,
    FloatArray,
    IntArray,
    Joined,
    LabelRun,
    Labels,
    Origin,
    Picked,
    Predictions,
    Record,
    concatenate,
    missing,
)
from connectors.schema import KINDS, MOMENTS, MOST_VALUES, Extra, FieldHead, Kind, Schema, StreamHead
from connectors.streams import StreamSpec, look, open_source

__all__ = [
    "KINDS",
    "MOMENTS",
    "MOST_VALUES",
    "Chunk",
    "Codec",
    "Column",
    "ConnectorError",
    "Cut",
    "DeadLetter",
    "End",
    "Extra",
    "Fail",
    "FieldHead",
    "FloatArray",
    "IntArray",
    "Joined",
    "JsonCodec",
    "Kind",
    "LabelRun",
    "LabelledCodec",
    "Labels",
    "MemorySink",
    "MemorySource",
    "Nothing",
    "Origin",
    "Picked",
    "Predictions",
    "Record",
    "Schema",
    "SchemaError",
    "Sink",
    "SinkError",
    "Source",
    "SourceError",
    "Step",
    "StreamHead",
    "StreamSpec",
    "concatenate",
    "event_schema",
    "label_schema",
    "look",
    "missing",
    "open_dead_letters",
    "open_predictions",
    "open_source",
    "records_of",
]
