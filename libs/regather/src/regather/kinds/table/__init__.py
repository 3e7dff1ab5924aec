"""Kinds of the extra `regather[table]`."""

from regather.processors.base import Extra

EXTRA = Extra("regather[table]", ("numpy", "duckdb", "pyarrow"))
