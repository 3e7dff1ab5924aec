"""Options of `model.predict`. Lists and maps may be given as text, because options are often query parameters."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from regather.processors.base import Options

ROW, ID = "row", "id"
"""Fields of every row of a result; an output of the model cannot have these names."""


def _names(value: object) -> object:
    """Convert `a, b` to a list."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",")] if value.strip() else []
    if "" in names:
        raise ValueError(f"{value!r} has an empty name")
    return names


def _columns_by_input(value: object) -> object:
    """Convert `x: a, b; y: c` to a map of lists."""
    if not isinstance(value, str):
        return value
    found: dict[str, object] = {}
    for part in filter(str.strip, value.split(";")):
        name, colon, columns = (text.strip() for text in part.partition(":"))
        if not (name and colon and columns):
            raise ValueError(f"{part.strip()!r} is not INPUT: COLUMN, COLUMN")
        if name in found:
            raise ValueError(f"input {name!r} is given twice")
        found[name] = columns
    return found


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class PredictOptions(Options):
    """The model, the rows, which columns go to which input, and what the result has."""

    model: str = Field(default="digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the model")
    model_sha256: str = Field(
        default="", pattern=r"^([0-9a-fA-F]{64})?$", description="the model's SHA-256; a different one fails the job"
    )
    format: Literal["auto", "npy", "raw", "csv", "ndjson", "json", "parquet"] = Field(
        default="auto", description="format of the input; auto: from content type and first bytes; raw needs features"
    )
    features: int | None = Field(default=None, ge=1, le=1_000_000, description="number of values in a raw row")
    dtype: Literal[
        "float32",
        "float64",
        "float16",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "bool",
    ] = Field(default="float32", description="type of a raw value, little-endian")
    header: bool = Field(
        default=True, description="CSV's first row has names and is not data; otherwise they are c0, c1, ..."
    )
    delimiter: str = Field(default=",", description="separator of CSV's fields; tab may be written \\t")
    columns: Names = Field(default=(), description="columns of the rows in the model's order: a, b; all by default")
    inputs: Annotated[dict[str, Names], BeforeValidator(_columns_by_input)] = Field(
        default={}, description="columns of each input of the model: x: a, b; mask: c"
    )
    id: str = Field(default="", description="a column that is not a feature, but copied to the result")
    missing: Literal["error", "nan"] = Field(
        default="error", description="error: an empty cell or a null makes a bad row; nan: the model gets NaN for it"
    )
    outputs: Names = Field(default=(), description="outputs of the model whose values the result has: p, embedding")
    probabilities: str = Field(default="", description="the output that has a probability for each class")
    classes: Names = Field(default=(), description="names of the classes, in the order of their probabilities")
    all_classes: bool = Field(
        default=False, description="the probabilities of all classes, not only the likeliest one's"
    )
    batch_rows: int | None = Field(
        default=None, ge=1, le=65_536, description="rows per run of the model; by default it depends on a row's size"
    )
    whole: bool = Field(default=False, description="put all rows in one shard and one run of the model")
    output: Literal["ndjson", "csv", "npy"] = Field(default="ndjson", description="format of the result")

    @field_validator("delimiter")
    @classmethod
    def _tab(cls, value: str) -> str:
        return "\t" if value == "\\t" else value

    @model_validator(mode="after")
    def _check_together(self) -> "PredictOptions":
        if self.columns and self.inputs:
            raise ValueError("columns cannot be combined with inputs; inputs alone says which column goes where")
        if self.outputs and (self.probabilities or self.classes or self.all_classes):
            raise ValueError("outputs gives values as they are; probabilities, classes and all_classes are for classes")
        if self.output == "npy" and len(self.outputs) > 1:
            raise ValueError("output=npy writes one array; name one of the outputs")
        if self.output == "npy" and self.id:
            raise ValueError("output=npy has no place for the column 'id'; ask for ndjson or csv")
        for names, what in ((self.outputs, "outputs"), (self.classes, "classes")):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} has the same name twice")
        if self.whole and self.batch_rows:
            raise ValueError("whole=true is one run of all rows, so batch_rows cannot be set")
        return self
