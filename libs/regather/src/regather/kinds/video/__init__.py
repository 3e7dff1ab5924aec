"""Kinds of the extra `regather[video]`."""

from regather.processors.base import Extra

EXTRA = Extra("regather[video]", ("numpy", "av"))
