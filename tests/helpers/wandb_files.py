"""What W&B stored offline, read from its .wandb files: records of LevelDB's log format, each a protocol buffer.

The format: a header of 7 bytes, then blocks of 32 KiB with chunks (CRC of 4 bytes, length of 2, kind of 1); a record is
one chunk of kind 1, or chunks of kind 2, 3 …, 4. https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

import json
import struct

BLOCK = 32768


def stored_rows(folder):
    """(run id, step, metrics) of every row in all files of a folder, in the order of their time."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for file in sorted(folder.glob("*run-*/run-*.wandb")):
        for data in _records(file.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                row = {key: json.loads(value) for key, value in items.items()}
                metrics = {key: value for key, value in row.items() if not key.startswith("_")}
                found.append((file.stem.removeprefix("run-"), row["_step"], metrics))
    return found


def _records(data):
    at, parts = 7, []
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if kind == 0:  # the rest of the block is empty
            at += left
            continue
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []
