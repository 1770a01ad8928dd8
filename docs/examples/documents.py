"""Files to try formats, splits and errors with: short modules of the standard library."""

import json
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

files = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
files = [file for file in files if 2_000 < file.stat().st_size < 9_000]
rows = [{"id": file.stem, "text": file.read_text(encoding="utf-8")} for file in files]


def write(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


write("my.jsonl", rows)
write("train.jsonl", rows[:-12])
write("validation.jsonl", rows[-12:-8])
write("test.jsonl", rows[-8:])
write("broken.jsonl", [rows[0], {"id": "number", "text": 1}])
for part in ("train", "validation", "test"):
    lines = Path(f"{part}.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    Path(f"{part}.ids").write_text("\n".join(ids) + "\n")
table = {"key": [row["id"] for row in rows], "body": [row["text"] for row in rows]}
pq.write_table(pa.table(table), "my.parquet")
Path("texts").mkdir(exist_ok=True)
for row in rows:
    Path("texts", row["id"] + ".txt").write_text(row["text"], encoding="utf-8")
