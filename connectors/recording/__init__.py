"""A part of a log in a file, in one order: what replays it as it was."""

from connectors.recording.layout import ENDINGS, Heading, Order, Stretch, is_recording
from connectors.recording.source import RecordingReader, RecordingSource
from connectors.recording.writer import RecordingWriter

__all__ = [
    "ENDINGS",
    "Heading",
    "Order",
    "RecordingReader",
    "RecordingSource",
    "RecordingWriter",
    "Stretch",
    "is_recording",
]
