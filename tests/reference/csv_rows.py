"""Which rows a CSV file has, read one character at a time. Written apart from the project: it imports nothing of it.

A row ends at LF, CR LF or a lone CR outside of quotes. A quote opens a field at its beginning, or behind one space there; a
doubled quote inside is a quote; spaces may follow the closing one, and a quote behind those opens again. Lines that begin
with the comment character, and empty lines (but where the first row has one column), are no rows.
"""

from dataclasses import dataclass, field

MALFORMED = ["<malformed>"]
"""Stands for a row with bytes behind a closing quote."""


@dataclass
class Reader:
    """One pass over a text; `rows` are lists of fields, `begins` where in the text each of them begins."""

    text: str
    delimiter: str = ","
    quote: str = '"'
    comment: str = ""
    rows: list[list[str]] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    open_at: int | None = None
    """Where the row begins whose quote is open at the end."""

    def read(self, skip_lines: int = 0, *, keep_empty: bool | None = None) -> "Reader":
        """Read all rows but the first lines; `keep_empty` says that empty lines are rows, or are none."""
        at = 0
        for _ in range(skip_lines):
            at = self._line(at)
        while at < len(self.text):
            comment = self.comment and self.text[at] == self.comment
            at = self._line(at) if comment else self._row(at)
        first = next((index for index, row in enumerate(self.rows) if row), len(self.rows))
        if keep_empty is None:
            keep_empty = first < len(self.rows) and len(self.rows[first]) == 1
        else:
            first = 0
        kept = [index for index, row in enumerate(self.rows) if index >= first and (row or keep_empty)]
        self.begins = [self.begins[index] for index in kept]
        self.rows = [self.rows[index] or [""] for index in kept]
        return self

    def _line(self, at: int) -> int:
        while at < len(self.text) and self.text[at] not in "\r\n":
            at += 1
        return self._behind_line_end(at)

    def _behind_line_end(self, at: int) -> int:
        return at + (2 if self.text[at : at + 2] == "\r\n" else 1)

    def _row(self, begin: int) -> int:
        fields: list[str] = []
        at = begin
        if self.text[at] in "\r\n":
            self._take(begin, [])
            return self._behind_line_end(at)
        bad = False
        while True:
            value, at, wrong = self._field(at)
            bad = bad or wrong
            if self.open_at is not None:
                self.open_at = begin
                return len(self.text)
            fields.append(value)
            if at < len(self.text) and self.text[at] == self.delimiter:
                at += 1
                continue
            self._take(begin, MALFORMED if bad else fields)
            return self._behind_line_end(at)

    def _take(self, begin: int, fields: list[str]) -> None:
        self.begins.append(begin)
        self.rows.append(fields)

    def _field(self, at: int) -> tuple[str, int, bool]:
        """Return the value, where it ends, and whether it is malformed."""
        opening = at
        if self.delimiter != " " and self.text[at : at + 1] == " ":
            opening += 1
        if not self.quote or self.text[opening : opening + 1] != self.quote:
            end = at
            while end < len(self.text) and self.text[end] not in self.delimiter + "\r\n":
                end += 1
            return self.text[at:end], end, False
        value, at = "", opening + 1
        while True:
            end = self.text.find(self.quote, at)
            if end < 0:
                self.open_at = opening
                return "", len(self.text), False
            value += self.text[at:end]
            at = end + 1
            if self.text[at : at + 1] == self.quote:
                value += self.quote
                at += 1
                continue
            spaces = at
            while self.delimiter != " " and self.text[at : at + 1] == " ":
                at += 1
            if self.text[at : at + 1] == self.quote:
                value += self.text[spaces:at]
                at += 1
                continue
            break
        bad = False
        while at < len(self.text) and self.text[at] not in self.delimiter + "\r\n":
            at, bad = at + 1, True
        return value, at, bad
