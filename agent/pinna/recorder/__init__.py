"""The recorder: every sample in a file, or in a line that says where it went."""
