"""Reading and writing the pipeline's files: whole or not at all, and checked on the way in."""

from stages.store.delimited import decode, read_delimited
from stages.store.files import atomic_path, read_json, read_table, sha256, write_json, write_table
from stages.store.scratch import fingerprint, scratch
from stages.store.sources import FileRead, Source
from stages.store.study import Study, join, load_study, read_embeddings, write_embeddings

__all__ = [
    "FileRead",
    "Source",
    "Study",
    "atomic_path",
    "decode",
    "fingerprint",
    "join",
    "load_study",
    "read_delimited",
    "read_embeddings",
    "read_json",
    "read_table",
    "scratch",
    "sha256",
    "write_embeddings",
    "write_json",
    "write_table",
]
