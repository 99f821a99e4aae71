"""A program that is traced by OpenTelemetry already, and gets the picture without new code in it."""
