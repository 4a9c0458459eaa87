"""Compare our OTLP/JSON with the messages that Python's protobuf reads from it.

Usage: proto3_json_check.py FOLDER

FOLDER holds the files of the unit test `samples_for_other_parsers_are_written_where_they_are_asked_for`.
Needs the packages `protobuf` and `opentelemetry-proto`. Exits with 1 when a line is refused or reads as
another message than the one that was written.
"""

import base64
import pathlib
import sys

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.internal.decoder import _DecodeVarint32
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

IDS = {"trace_id", "span_id", "parent_span_id"}


def normalise(message, ids_are_base64):
    """Undo the two known differences, in place.

    OTLP writes ids as hex, which protobuf takes for base64: encoding again gives the hex digits.
    prost leaves out a -0.0 that has no presence, and the line keeps it.
    """
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                normalise(item, ids_are_base64)
        elif field.name in IDS and ids_are_base64:
            setattr(message, field.name, bytes.fromhex(base64.b64encode(value).decode()))
        elif (
            field.type == FieldDescriptor.TYPE_DOUBLE
            and not field.is_repeated
            and not field.has_presence
            and value == 0
        ):
            message.ClearField(field.name)


def delimited(data):
    position = 0
    while position < len(data):
        length, position = _DecodeVarint32(data, position)
        yield data[position : position + length]
        position += length


def check(folder, name, message_type):
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    messages = list(delimited((folder / f"{name}.pb").read_bytes()))
    assert len(lines) == len(messages), f"{name}: {len(lines)} lines, {len(messages)} messages"
    differences = 0
    for number, (line, encoded) in enumerate(zip(lines, messages), 1):
        expected = message_type.FromString(encoded)
        normalise(expected, ids_are_base64=False)
        try:
            parsed = json_format.Parse(line, message_type())
            normalise(parsed, ids_are_base64=True)
        except (json_format.ParseError, ValueError) as error:
            print(f"{name}.jsonl, line {number}: {error}", file=sys.stderr)
            differences += 1
            continue
        # By bytes, because a NaN is not equal to itself.
        if parsed.SerializeToString(deterministic=True) != expected.SerializeToString(
            deterministic=True
        ):
            print(f"{name}.jsonl, line {number}: reads as another message", file=sys.stderr)
            differences += 1
    print(f"{name}: {len(lines)} lines, {differences} differences")
    return differences


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    kinds = {"traces": TracesData, "logs": LogsData, "metrics": MetricsData}
    differences = sum(check(folder, name, kind) for name, kind in kinds.items())
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
