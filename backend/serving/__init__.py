"""What Label Studio and people call: HTTP, who may do what, what is going on."""
