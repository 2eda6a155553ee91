"""When the microphone may leave the device, who decides it, and what is remembered of it."""
