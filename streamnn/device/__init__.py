"""Micro-batches as graphs on a device: the step traced once for each size, compiled, captured and replayed."""

from streamnn.device.engine import DeviceName, GraphEngine, check_device, describe_device

__all__ = ["DeviceName", "GraphEngine", "check_device", "describe_device"]
