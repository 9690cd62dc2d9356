"""The database: critical dimensions measured on finished labels."""
