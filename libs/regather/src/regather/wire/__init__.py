"""Records to values and back: the only place that knows the format on the topics.

Every record carries one binary header `rg` with the wire version and its identity; a reader refuses a version that it
does not know. Payloads are the record's value, untouched; metadata is in the headers.
"""
