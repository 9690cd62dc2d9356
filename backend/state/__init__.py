"""What survives a restart: strokes, answers, weights, features, and the record of all turns."""
