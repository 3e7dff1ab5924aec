"""Kinds of the extra `regather[image]`."""

from regather.processors.base import Extra

EXTRA = Extra("regather[image]", ("numpy", "pyvips", "tifffile", "imagecodecs", "pydicom"))
