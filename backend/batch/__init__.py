"""What the scripts do with many images: import, measure, trace back."""
