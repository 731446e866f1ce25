"""The allocator's settings for the verbs that run a network."""


def keep_freed_memory_on_cpu(device: str = "auto") -> None:
    """Keeps freed memory in the process where the network runs on the processor; raises UsageError for a missing device."""
    from polytag.allocator import keep_freed_memory
    from polytag.models.device import choose_device

    if choose_device(device) == "cpu":
        keep_freed_memory()
