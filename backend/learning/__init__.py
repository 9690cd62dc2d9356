"""The server: OBAL, the guide that learns one image, its uncertainty and its spots."""
