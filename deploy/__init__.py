"""What runs beside the processor: a broker, monitoring, container files. No other package needs it."""
