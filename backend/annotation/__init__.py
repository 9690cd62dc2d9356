"""The client: Label Studio's tasks, strokes and predictions, translated to and from ours."""
