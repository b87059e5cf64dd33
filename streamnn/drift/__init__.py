"""Drift detectors: they watch the loss of each event before it is learned and say where it changed."""

from streamnn.drift.adwin import ADWIN
from streamnn.drift.base import DetectorState, DriftDetector, NoDetector, OnLoss, error_degree
from streamnn.drift.ddm import DDM, EDDM
from streamnn.drift.hddm import HDDMA, HDDMW
from streamnn.drift.kswin import KSWIN
from streamnn.drift.make import DETECTORS, make_detector
from streamnn.drift.page_hinkley import PageHinkley

__all__ = [
    "ADWIN",
    "DDM",
    "DETECTORS",
    "EDDM",
    "HDDMA",
    "HDDMW",
    "KSWIN",
    "DetectorState",
    "DriftDetector",
    "NoDetector",
    "OnLoss",
    "PageHinkley",
    "error_degree",
    "make_detector",
]
