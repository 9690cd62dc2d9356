"""What takes time: guides learn and answer, the shared model is trained and predicts."""
