"""Recorded and generated streams by name: what they look like, and sources that read them.

In: `StreamSpec`. Out: `StreamHead` from `look`, and a `Source` from `open_source`.
"""

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path

from connectors.base import Source
from connectors.block_source import BlockReader, BlockSource
from connectors.csv_records import CsvReader
from connectors.decode import Sample
from connectors.errors import SourceError
from connectors.head import field_head, nothing_readable
from connectors.json_lines import JsonLinesReader
from connectors.parquet_records import ParquetReader
from connectors.schema import Schema, StreamHead
from connectors.sparse import SparseReader, check_sparse

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".libsvm": "libsvm",
    ".svm": "libsvm",
}


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """Which stream, and how it is read.

    Attributes:
        source: a path that ends in .csv, .tsv, .jsonl, .ndjson, .parquet, .libsvm or .svm, each also with .gz behind;
            `river:NAME`, a data set of river; `synth:NAME`, an endless generator of river, with parameters as in
            `synth:Agrawal?classification_function=2`; several, one after the other, as in `connectors.river_streams`.
        delimiter: between the fields of a CSV line; a .tsv file has tabs whatever is said here.
        follow: wait for more at the end of a file (CSV and JSON Lines), and go on with a new file of its name.
        max_record_bytes: longer records are refused.
        seed: of a generator.
    """

    source: str
    delimiter: str = ","
    follow: bool = False
    max_record_bytes: int = 1 << 20
    seed: int = 0


def look(spec: StreamSpec, records: int = 1000) -> StreamHead:
    """Read the beginning of a stream and tell what its fields are.

    Args:
        spec: the stream.
        records: how many records are looked at, at most; unreadable ones count for nothing else.

    Raises:
        SourceError: the stream cannot be opened, holds nothing, or nothing that can be read.
    """
    reader = _reader(spec, Schema())
    try:
        reader.open(None)
        samples, looked = list[Sample](), 0
        while looked < records:
            try:
                block = reader.read(records - looked)
            except SourceError:
                if not looked:
                    raise
                break  # what comes before it has been seen; a run will get there
            if block is None or not len(block.records):
                break
            samples.append(block.sample())
            looked += len(block.records)
        refused = [refusal for sample in samples for refusal in sample.refused]
        count = sum(sample.count for sample in samples)
        if refused and not count:
            raise nothing_readable(spec.source, refused)
        if not looked and reader.fields is None and not spec.follow:
            raise SourceError(f"{spec.source} is empty")
        values: dict[str, list[object]] = {name: [] for name in reader.fields or ()}
        for sample in samples:
            for name, some in sample.values.items():
                values.setdefault(name, []).extend(some)
        text, sparse = any(s.text for s in samples), any(s.sparse for s in samples)
        fields = tuple(field_head(name, some, count, text=text, sparse=sparse) for name, some in values.items())
        return StreamHead(fields, count, reader.targets, reader.task)
    finally:
        reader.close()


def open_source(spec: StreamSpec, schema: Schema) -> Source:
    """Return a source that reads a stream; its `open` is still to be called.

    Raises:
        SourceError: there is no such kind of stream.
        SchemaError: the fields are declared as what they cannot be there.
    """
    return BlockSource(_reader(spec, schema), schema)


def stream_format(source: str) -> str:
    """Return the format of a file by its name, without a .gz behind it; "" if it is none of those that can be read."""
    return FORMATS.get(_ending(Path(source)), "")


def _ending(path: Path) -> str:
    """Return how a name ends, without a .gz behind it."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _reader(spec: StreamSpec, schema: Schema) -> BlockReader:
    kind, _, name = spec.source.partition(":")
    if kind in ("river", "synth") and name:
        _no_follow(spec)
        # river's data sets bring much of what is installed with them: a second that no other stream should wait for
        module = importlib.import_module("connectors.river_streams")
        reader: BlockReader = module.RiverReader(name, generator=kind == "synth", seed=spec.seed)
        return reader
    path = Path(spec.source)
    ending, format_ = _ending(path), stream_format(spec.source)
    if spec.max_record_bytes < 1:
        raise SourceError(f"max_record_bytes is {spec.max_record_bytes}, but must be at least 1")
    if not format_:
        near = difflib.get_close_matches(ending, FORMATS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SourceError(
            f"{spec.source!r} is no stream that can be read; give a path that ends in {', '.join(FORMATS)} (each also"
            f" with .gz), river:NAME or synth:NAME.{hint}"
        )
    if path.suffix.lower() == ".gz" or format_ not in ("csv", "jsonl"):
        _no_follow(spec)
    if format_ == "csv":
        return CsvReader(
            path,
            delimiter="\t" if ending == ".tsv" else spec.delimiter,
            ignore=schema.ignore,
            follow=spec.follow,
            max_record_bytes=spec.max_record_bytes,
        )
    if format_ == "jsonl":
        return JsonLinesReader(path, follow=spec.follow, max_record_bytes=spec.max_record_bytes)
    if format_ == "parquet":
        return ParquetReader(path)
    check_sparse(schema)
    return SparseReader(path, max_record_bytes=spec.max_record_bytes)


def _no_follow(spec: StreamSpec) -> None:
    if spec.follow:
        raise SourceError(f"follow is set, but {spec.source} cannot grow; only plain CSV and JSON Lines files can")
