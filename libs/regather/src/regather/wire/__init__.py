"""Encodes values as records and decodes records: the only place that depends on the format on the topics.

Every record of a job has one binary header `rg` with the wire version and the record's identity. A reader refuses a
wire version that it does not support. The payload is the record's value, unchanged; metadata is in the headers.
"""
