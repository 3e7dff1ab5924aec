"""Kinds of the extra `regather[model]`."""

from regather.processors.base import Extra

EXTRA = Extra("regather[model]", ("numpy", "duckdb", "pyarrow", "onnx", "onnxruntime"))
